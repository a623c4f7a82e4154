"""Parties that send what no honest party sends: `HostileCluster` makes one of any cluster's parties a liar.

A liar behaves as usual, except that values of one kind, in its answers or its calls, are replaced: `lies.LIES` has the
ways by what the value is. `SENDS` says what each party of each method sends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from typing import Any

from lies import Lie

from raysplit.algorithms.setting import Team
from raysplit.cluster.arriving.forms import ANYTHING, Expected
from raysplit.cluster.arriving.verbs import VERBS, Holds
from raysplit.cluster.contract import Cluster, Handle, PartySpec
from raysplit.cluster.faults import FaultyCluster

# -- liars -----------------------------------------------------------------------------------------------------------


@dataclass
class Plan:
    """What a party lies about, and when.

    Attributes:
        party: its name.
        content: what the value is, a key of `LIES`.
        lie: how it is changed.
        at: the number of the value at which it begins to lie, counted from 1.
        told: how many lies it has told.
    """

    party: str
    content: str
    lie: Lie
    at: int = 1
    told: int = 0
    seen: int = 0

    def of(self, content: str, value: Any) -> Any:
        """Return a value, changed if it is one to lie about; a promise is changed when its value is there."""
        if content.rstrip("?") != self.content or value is None:
            return value
        if hasattr(value, "__await__"):
            return _later(value, partial(self.of, content))
        self.seen += 1
        if self.seen < self.at:
            return value
        self.told += 1
        return self.lie(value)

    def of_answer(self, holds: Holds, value: Any) -> Any:
        contents = holds.answer.split("+")
        if len(contents) == 1:
            return self.of(holds.answer, value)
        return tuple(self.of(content, piece) for content, piece in zip(contents, value, strict=True))


async def _later(promise: Any, change: Lie) -> Any:
    return change(await promise)


class LyingHandle(Handle):
    """The handle of another party, in the hands of a liar."""

    def __init__(self, handle: Handle, plan: Plan) -> None:
        self.name = handle.name
        self._handle = handle
        self._plan = plan

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        return partial(self._call, verb)

    def _call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        holds, plan = VERBS.get(verb, Holds()), self._plan
        sent = [plan.of(holds.content(i, len(args), ()), value) for i, value in enumerate(args)]
        sent = [plan.of(f"={name}", value) for name, value in zip_longest(holds.names[: len(sent)], sent)]
        return getattr(self._handle, verb)(*sent, **kwargs)


class Liar:
    """A party that lies by a plan."""

    def __init__(self, *, name: str, build: Callable[..., Any], plan: Plan, **given: Any) -> None:
        self._party = build(name=name, **given)
        self._plan = plan

    def expects(self, content: str, given: Mapping[str, Any]) -> Expected:
        expects = getattr(self._party, "expects", None)
        found: Expected = ANYTHING if expects is None else expects(content, given)
        return found

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        return partial(self._call, verb)

    async def _call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        args = tuple(_lying(value, self._plan) if isinstance(value, Team) else value for value in args)
        result = getattr(self._party, verb)(*args, **kwargs)
        result = await result if hasattr(result, "__await__") else result
        return self._plan.of_answer(VERBS.get(verb, Holds()), result)


def _lying(team: Team, plan: Plan) -> Team:
    peers = {name: LyingHandle(peer, plan) for name, peer in team.peers.items()}
    return replace(team, peers=peers, nodes=tuple(LyingHandle(node, plan) for node in team.nodes))


class HostileCluster(FaultyCluster):
    """A cluster with a party that lies."""

    def __init__(self, cluster: Cluster, plan: Plan) -> None:
        super().__init__(cluster, [])
        self.plan = plan

    def _with_faults(self, party: PartySpec) -> PartySpec:
        if party.name != self.plan.party:
            return party
        arguments = {"build": party.build, "plan": self.plan, **party.arguments}
        return replace(party, build=Liar, arguments=arguments)


# -- who sends what --------------------------------------------------------------------------------------------------

_SPLIT_OWNER = ("smashed", "labels", "report")
_SERVER = ("loss", "gradients", "weights", "state")
SENDS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "local": {"owner-1": ("report", "weights", "state")},
    "fedavg": {"owner-1": ("weights", "report"), "aggregator": ("weights", "state")},
    "fedprox": {"owner-1": ("weights",), "aggregator": ("weights",)},
    "fedem": {"owner-1": ("weights", "report"), "aggregator": ("weights",)},
    "splitnn": {"owner-1": (*_SPLIT_OWNER, "weights"), "server": _SERVER},
    "splitfed_v1": {"owner-1": (*_SPLIT_OWNER, "weights"), "server": _SERVER, "aggregator": ("weights",)},
    "splitfed_v1 on two servers": {
        "owner-1": _SPLIT_OWNER,
        "server-1": ("loss", "gradients"),
        "server-aggregator": ("weights",),
    },
    "splitfed_v2": {"owner-1": (*_SPLIT_OWNER, "weights"), "server": _SERVER, "aggregator": ("weights",)},
    "minibatch_sfl": {"owner-1": (*_SPLIT_OWNER, "weights"), "server": _SERVER, "aggregator": ("weights",)},
    "minibatch_sfl on two servers": {"owner-1": _SPLIT_OWNER, "server-1": ("loss", "gradients")},
    "mpsl": {
        "owner-1": ("smashed", "gradients", "weights", "report"),
        "node-1": ("smashed", "gradients", "weights"),
        "aggregator": ("weights",),
    },
    "mpsl with routes": {"owner-1": ("smashed", "weights"), "node-1": ("smashed", "gradients", "weights")},
    "mtsl": {"owner-1": (*_SPLIT_OWNER, "weights"), "server": _SERVER},
    "mtl_split": {"owner-0": ("smashed", "labels"), "heads-0": ("loss", "gradients", "weights"), "heads-2": ("loss",)},
    "mtl_split on two nodes": {"owner-0": ("smashed",), "heads-1": ("loss", "gradients")},
    "all_in_one": {"owner-1": ("weights", "report"), "aggregator-s+d+k@0": ("weights", "state")},
    "one_by_one in turn": {"owner-1": ("weights", "report"), "aggregator-d@0": ("weights",)},
    "tag": {"owner-1": ("weights",), "aggregator-s+d+k@0": ("weights",)},
    "hoa": {"aggregator-d+k@0": ("weights",)},
    "mas": {"owner-1": ("weights", "report"), "aggregator-s+d+k@0": ("weights",)},
}
"""What each party of a method sends, as contents."""
