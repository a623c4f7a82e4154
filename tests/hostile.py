"""Parties that send what no honest party sends: `HostileCluster` makes one of any cluster's parties a liar.

A liar behaves as usual, except that values of one kind, in its answers or its calls, are replaced: `LIES` has the ways
by what the value is. `SENDS` says what each party of each method sends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from raysplit.algorithms.setting import Team
from raysplit.cluster.arriving.forms import ANYTHING, Expected
from raysplit.cluster.arriving.verbs import VERBS, Holds
from raysplit.cluster.contract import Cluster, Handle, PartySpec
from raysplit.cluster.faults import FaultyCluster
from raysplit.cluster.links.coded import Coded, Header

Lie = Callable[[Any], Any]


def _first(change: Lie) -> Lie:
    """Change the first tensor of a value, which may be several."""
    return lambda value: (change(value[0]), *value[1:]) if isinstance(value, tuple) else change(value)


def _filled(number: float) -> Lie:
    def filled(tensor: Tensor) -> Tensor:
        lie = tensor.clone()
        lie.flatten()[-1:] = number
        return lie

    return filled


OF_TENSORS: dict[str, Lie] = {
    "NaN": _first(_filled(float("nan"))),
    "infinite": _first(_filled(float("inf"))),
    "minus infinite": _first(_filled(float("-inf"))),
    "all NaN, once in memory": _first(lambda t: torch.full((1,) * t.ndim, float("nan"), dtype=t.dtype).expand(t.shape)),
    "another shape": _first(lambda t: t.new_zeros(3, 3, 3)),
    "transposed": _first(lambda t: t.mT if t.shape[-1] != t.shape[-2] else t[..., :-1]),
    "too few rows": _first(lambda t: t[:-1]),
    "no rows": _first(lambda t: t[:0]),
    "double or single": _first(lambda t: t.float() if t.dtype == torch.float64 else t.double()),
    "half": _first(lambda t: t.half()),
    "integers": _first(lambda t: t.long()),
    "sparse": _first(lambda t: t.to_sparse()),
    "None": lambda _: None,
    "a list": lambda value: [value] if isinstance(value, Tensor) else list(value),
    "numbers": lambda value: value[0].tolist() if isinstance(value, tuple) else value.tolist(),
    "text": lambda _: "gradient\x1b[2J",
    "two": lambda value: (value, value) if isinstance(value, Tensor) else (*value, value[0]),
    "an empty tuple": lambda _: (),
    "a mapping": lambda value: {"z": value},
}


def _of_weight(change: Lie) -> Lie:
    """Change the first floating weight by name."""

    def changed(state: Mapping[str, Tensor]) -> dict[str, Any]:
        name = next(name for name, value in state.items() if value.is_floating_point() and value.numel() > 1)
        return {**state, name: change(state[name])}

    return changed


OF_WEIGHTS: dict[str, Lie] = {
    "NaN": _of_weight(_filled(float("nan"))),
    "infinite": _of_weight(_filled(float("inf"))),
    "another shape": _of_weight(lambda t: t.new_zeros(3, 3, 3)),
    "double or single": _of_weight(OF_TENSORS["double or single"]),
    "text in it": _of_weight(lambda t: "w"),
    "a missing name": lambda state: dict([*state.items()][1:]),
    "nothing": lambda _: {},
    "another name": lambda state: {**state, "w\x1b[2J": torch.ones(2)},
    "a number for a name": lambda state: {**state, 7: torch.ones(2)},
    "None": lambda _: None,
    "a list": lambda state: list(state.values()),
    "text": lambda _: "weights",
}
OF_LOSSES: dict[str, Lie] = {
    "NaN": lambda _: float("nan"),
    "infinite": lambda _: float("inf"),
    "negative": lambda _: -5.0,
    "None": lambda _: None,
    "text": lambda _: "0.1",
    "a list": lambda loss: [loss],
    "a tensor": lambda loss: torch.tensor(loss),
    "true": lambda _: True,
}
OF_REPORTS: dict[str, Lie] = {
    "None": lambda _: None,
    "text": lambda _: "done",
    "of another owner": lambda report: replace(report, owner="owner-7"),
    "NaN": lambda report: replace(report, loss=float("nan")),
    "a text for a loss": lambda report: replace(report, loss="0.1"),
    "a negative count": lambda report: replace(report, num_samples=-3),
    "half a step": lambda report: replace(report, num_steps=0.5),
}
OF_LABELS: dict[str, Lie] = {
    "of no class": lambda y: _each(y, lambda t: t + 1000),
    "negative": lambda y: _each(y, lambda t: t - 50),
    "too few": lambda y: _each(y, lambda t: t[:-1]),
    "None": lambda _: None,
    "text": lambda _: "labels",
    "a list": lambda y: [y],
}
OF_STATES: dict[str, Lie] = {"None": lambda _: None, "text": lambda _: "state", "NaN": lambda state: _with_nan(state)}
OF_STEPS: dict[str, Lie] = {
    "of the round before": lambda step: replace(step, round=step.round - 1),
    "of the next round": lambda step: replace(step, round=step.round + 1),
    "of another attempt": lambda step: replace(step, attempt=step.attempt + 1),
    "of a step that is over": lambda step: replace(step, step=0),
    "of a step that is none": lambda step: replace(step, step=10**6),
    "in the name of another": lambda step: replace(step, owner="owner-0"),
    "in a name of nobody": lambda step: replace(step, owner="owner-7"),
    "of a text": lambda step: replace(step, step="x"),
    "None": lambda _: None,
}
OF_CONTEXTS: dict[str, Lie] = {
    "of the round before": lambda context: replace(context, round=context.round - 1),
    "of the next round": lambda context: replace(context, round=context.round + 1),
    "of another attempt": lambda context: replace(context, attempt=context.attempt + 1),
    "None": lambda _: None,
}
OF_OWNERS: dict[str, Lie] = {
    "in the name of another": lambda _: "owner-0",
    "in a name of nobody": lambda _: "owner-7",
    "None": lambda _: None,
}
LIES: Mapping[str, Mapping[str, Lie]] = {
    "smashed": OF_TENSORS,
    "gradients": OF_TENSORS,
    "weights": OF_WEIGHTS,
    "loss": OF_LOSSES,
    "report": OF_REPORTS,
    "labels": OF_LABELS,
    "state": OF_STATES,
    "=step_id": OF_STEPS,
    "=context": OF_CONTEXTS,
    "=owner": OF_OWNERS,
}
"""The lies by what the value is: a content, or ``=`` and the name of a parameter by which a call says whose it is."""


_BOMB = Header(1, "gradients", torch.float32, (2**31, 3), 9).packed()
OF_MESSAGES: dict[str, Lie] = {
    "a message cut short": lambda _: Coded(b"short", []),
    "a message without a body": lambda _: Coded(Header(1, "smashed", torch.float32, (16, 8), 128).packed(), []),
    "gigabytes announced": lambda _: Coded(_BOMB, [torch.zeros(9).numpy()]),
    "a header of zeros": lambda _: Coded(bytes(64), [torch.zeros(9).numpy()]),
}
"""Lies in coded form, which no codec has made."""


class Replay:
    """A lie that sends the first value again and again."""

    def __init__(self) -> None:
        self._first: list[Any] = []

    def __call__(self, value: Any) -> Any:
        self._first.append(value)
        return self._first[0]


def _each(y: Any, change: Lie) -> Any:
    return {task: change(labels) for task, labels in y.items()} if isinstance(y, Mapping) else change(y)


def _with_nan(state: Any) -> Any:
    """Change every floating tensor of a nested state."""
    if isinstance(state, Tensor):
        return torch.full_like(state, float("nan")) if state.is_floating_point() else state
    if isinstance(state, Mapping):
        return {key: _with_nan(value) for key, value in state.items()}
    return [_with_nan(value) for value in state] if isinstance(state, list) else state


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
