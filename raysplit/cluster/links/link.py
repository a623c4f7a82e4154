"""The link through which parties send values to one another, on every cluster.

``leaving`` encodes the tensors of a value that is sent. ``arriving`` counts the received bytes, shows the value to the
taps, decodes it, and checks it (`raysplit.cluster.arriving`). Bytes are counted nowhere else. Every process has one
`Link`; the handles of all clusters send arguments and answers through it.

By default, values are sent unchanged and counted. `LinkRules` add a `Codec` for a kind of value, or a `Tap` that
observes. What a codec keeps from one value to the next is in the `Memory` of the party that it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from raysplit.cluster.arriving.check import Due, expected, is_usual, require
from raysplit.cluster.arriving.forms import Expected
from raysplit.cluster.arriving.verbs import VERBS as HELD
from raysplit.cluster.arriving.verbs import Holds, of_own
from raysplit.cluster.contract import KindTraffic, LinkTraffic
from raysplit.cluster.emulation.network import Network
from raysplit.cluster.links.kinds import KINDS, VERBS, Crossing, Kind
from raysplit.cluster.spent import Coding

LINKS = "links"
"""The key of what codecs keep, in the state of a party."""


class Link:
    """The link of one process, which counts values and sends them unchanged.

    Args:
        network: emulated network, which determines the time of transfers; None if nothing is emulated.

    Attributes:
        codes: whether `leaving` and `arriving` may change the form of a value.
        keeps_state: whether parties have a state on this link.
        adds: whether updates may be summed where they are, as nothing looks at each of them on its way.
        parties: the parties of this process by name, which say what they expect.
        checks: whether values are checked when they arrive; not those that are only sizes.
    """

    codes = False
    keeps_state = False
    adds = True

    def __init__(self, network: Network | None = None) -> None:
        self.network = network
        self.parties: dict[str, Any] = {}
        self.checks = True
        self._latest: tuple[Any, ...] | None = None
        self._carried: dict[tuple[str, str], list[Any]] = {}  # bytes, messages, bytes by kind; by (source, destination)

    def crossings(self, own: Mapping[str, Crossing]) -> Mapping[str, Crossing]:
        """Return the verbs of a party with the kinds of their values; ``own`` are those that its class declares."""
        return {**VERBS, **own} if own else VERBS

    def holds(self, own: Mapping[str, Crossing]) -> Mapping[str, Holds]:
        """Return what the verbs of a party carry, for the check; ``own`` are those that its class declares."""
        if not self.checks:
            return {}
        return {**HELD, **{verb: of_own(crossing) for verb, crossing in own.items()}} if own else HELD

    def leaving(self, source: str, destination: str, value: Any, kind: Kind, step: Any = None, verb: str = "") -> Any:
        """Return what is sent for a value with a call of ``verb``; ``destination`` is empty for an answer."""
        return value

    def arriving(
        self,
        source: str,
        destination: str,
        value: Any,
        num_bytes: int,
        kind: Kind = "other",
        step: Any = None,
        due: Due | None = None,
    ) -> Any:
        """Count ``num_bytes`` and return the decoded value, checked as what is ``due``.

        Calls of a party to itself are neither counted nor checked.

        Raises:
            BadValue: for a value that the receiver cannot have expected.
            ValueError: for a coded value that is truncated, changed, or of another configuration.
        """
        if source == destination:
            return value
        if num_bytes:
            self._count(source, destination, kind, num_bytes, num_bytes)
        if due is not None:
            wanted = expected(self.parties.get(destination), source, destination, due)
            if wanted.weights is not None and self._is_known(source, value, due, wanted):
                return value
            if not is_usual(value, due, source, wanted):
                require(value, due, source, destination, wanted)
        return value

    def _is_known(self, source: str, value: Any, due: Due, wanted: Expected) -> bool:
        """Return whether these weights were the latest to be checked, as when all owners of a process start from them.

        What a party sends is not changed afterwards.
        """
        if not isinstance(value, Mapping):
            return False
        rest = source, due.content, wanted._replace(weights=None, tell=None, told=None)
        before, self._latest = self._latest, (value, wanted.weights, rest)
        return before is not None and before[0] is value and before[1] is wanted.weights and bool(before[2] == rest)

    def _count(self, source: str, destination: str, kind: Kind, num_bytes: int, raw_bytes: int) -> None:
        ends = source, destination
        carried = self._carried.get(ends)
        if carried is None:
            carried = self._carried[ends] = [0, 0, {}]
        carried[0] += num_bytes
        carried[1] += 1
        by_kind = carried[2].get(kind)
        if by_kind is None:
            by_kind = carried[2][kind] = [0, 0]
        by_kind[0] += num_bytes
        by_kind[1] += raw_bytes

    def count_sum(self, sources: Sequence[str], destination: str, num_bytes: int) -> None:
        """Count updates of so many bytes each, of which the sum has arrived."""
        for source in sources:
            self._count(source, destination, "weights", num_bytes, num_bytes)

    def traffic(self) -> list[LinkTraffic]:
        """Return the traffic that has arrived here so far, sorted by source and destination."""
        return [
            LinkTraffic(
                source=source,
                destination=destination,
                num_bytes=num_bytes,
                num_messages=num_messages,
                kinds=tuple(KindTraffic(kind, *by_kind[kind]) for kind in KINDS if kind in by_kind),
            )
            for (source, destination), (num_bytes, num_messages, by_kind) in sorted(self._carried.items())
        ]

    def coding(self) -> dict[str, Coding]:
        """Return what the coding of each party took and changed since the previous call."""
        return {}

    # -- what codecs keep ----------------------------------------------------------------------------------------

    def begin(self, party: str, step: Any = None) -> None:
        """Note that a round of a party begins; ``step`` is its `RoundContext`."""

    def taken(self, source: str) -> None:
        """Note that the receiver has taken what a party has sent."""

    def state(self, party: str) -> dict[str, Tensor]:
        """Return what the codecs of a party keep."""
        return {}

    def load_state(self, party: str, state: Mapping[str, Tensor] | None) -> None:
        """Restore what the codecs of a party kept, or give up what is under way if there is no ``state``."""


def arguments_leaving(
    link: Link, crossing: Crossing, verb: str, ends: tuple[str, str], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Encode the arguments of a call between two ends; promises are encoded by the party that computes their values."""
    step = crossing.step_of(args, kwargs)
    return (
        tuple([link.leaving(*ends, v, crossing.positional(i), step, verb) for i, v in enumerate(args)]),
        {name: link.leaving(*ends, v, crossing.named(name), step, verb) for name, v in kwargs.items()},
    )
