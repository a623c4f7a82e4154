"""The link of runs whose owners have guards, and the choice of the link for a run.

A guard sees every value that leaves its owner before a codec does, whether it is an argument of a call or an answer,
and every value that arrives at its owner. It is an attribute ``guard`` of the party (`raysplit.guards.guard`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from raysplit.cluster.arriving.check import Due
from raysplit.cluster.contract import current_caller
from raysplit.cluster.emulation.network import Network
from raysplit.cluster.links.coding_link import CodingLink
from raysplit.cluster.links.kinds import UNDECLARED, Crossing, Kind
from raysplit.cluster.links.link import Link
from raysplit.cluster.links.rules import LinkRules
from raysplit.cluster.links.tensors import num_bytes as bytes_of


class Guard(Protocol):
    """What the link asks the guard of a party."""

    def kind_of(self, verb: str, kind: Kind, destination: str) -> str:
        """Return the kind of value in the ledger; ``destination`` is empty for an answer. Empty for no kind."""
        ...

    def leaves(self, value: str, content: Any, destination: str, step: Any = None) -> Any:
        """Return what is sent for a value of this kind."""
        ...

    def count(self, value: str, num_bytes: int) -> None:
        """Count the bytes of a value as it leaves, coded or not."""
        ...

    def received(self, value: Any) -> None:
        """Take note of a value that another party has sent."""
        ...


class GuardedLink(CodingLink):
    """A link whose parties may have guards."""

    def crossings(self, own: Mapping[str, Crossing]) -> Mapping[str, Crossing]:
        """Return the verbs of a party with the kinds of their values: every verb has some, so that none is unseen."""
        return _Every(super().crossings(own))

    def leaving(self, source: str, destination: str, value: Any, kind: Kind, step: Any = None, verb: str = "") -> Any:
        guard = self._guard(source)
        if guard is None or source == destination or hasattr(value, "__await__"):
            return super().leaving(source, destination, value, kind, step, verb)
        recorded = guard.kind_of(verb, kind, destination)
        if recorded and (bytes_of(value) or not destination or isinstance(value, float)) and not _is_place(value):
            value = guard.leaves(recorded, value, destination or current_caller.get(), step)
        sent = super().leaving(source, destination, value, kind, step, verb)
        if recorded and (size := bytes_of(sent)):
            guard.count(recorded, size)
        return sent

    def _received(
        self, source: str, destination: str, value: Any, num_bytes: int, kind: Kind, step: Any, due: Due | None
    ) -> Any:
        value = super()._received(source, destination, value, num_bytes, kind, step, due)
        guard = self._guard(destination) if num_bytes else None
        if guard is not None:
            guard.received(value)
        return value

    def _guard(self, party: str) -> Guard | None:
        found: Guard | None = getattr(self.parties.get(party), "guard", None)
        return found


class _Every(dict[str, Crossing]):
    """Verbs with the kinds of their values, where a verb that is not declared carries ``other``."""

    def get(self, verb: str, default: Any = None) -> Any:
        return super().get(verb, _OTHER)


_OTHER = Crossing()
assert _OTHER is not UNDECLARED, "links leave undeclared verbs alone"


def _is_place(value: Any) -> bool:
    """Whether a value says only where in a run a call is: a `StepId` or a `RoundContext`."""
    return hasattr(value, "round") and hasattr(value, "attempt")


def make_link(rules: LinkRules, network: Network | None = None) -> Link:
    """Return the link for these rules: a plain `Link` if they have no codecs, no taps and no guards."""
    if rules.guarded:
        return GuardedLink(rules, network)
    return Link(network) if rules.is_plain and not rules.taps else CodingLink(rules, network)
