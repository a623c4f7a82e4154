"""Values that no honest party sends: `LIES` has the ways to change a value, by what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

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
