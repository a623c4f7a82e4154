"""Further metrics by name, ``torchmetrics:NAME``: those of torchmetrics whose states are sums.

An owner's state is added to the others', so a metric that keeps raw predictions, or averages over batches, is refused:
its value would depend on batches, or its state would hold what has to stay with the owner. States in float32 are kept
in float64.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from torch import Tensor

from raysplit.registry import nearest

PREFIX = "torchmetrics:"
_HOMES = ("classification", "regression", "segmentation", "text")


@dataclass(frozen=True, kw_only=True)
class Further:
    """A metric of torchmetrics.

    Attributes:
        name: the name of its class.
        label: its name among the figures.
        options: the arguments of the class, as sorted pairs.
    """

    name: str
    label: str
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def better(self) -> Literal["higher", "lower"]:
        return "lower" if _new(self.name, self.options).higher_is_better is False else "higher"

    def check(self) -> None:
        """Raise ``ValueError`` unless there is such a metric and all its states are sums."""
        metric = _new(self.name, self.options)
        for state, reduce in metric._reductions.items():
            is_sum = getattr(reduce, "__name__", "") == "dim_zero_sum"
            if not is_sum or isinstance(metric._defaults[state], list) or self.name == "MeanIoU":
                raise ValueError(
                    f"{PREFIX}{self.name} is no sum over elements (its state {state!r}), so that owners cannot add up "
                    f"what they have; take another metric{_way_out(self.name)}"
                )

    def sums(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the states after a batch of counted elements, by this metric's own names."""
        metric = _new(self.name, self.options)
        if len(targets):
            metric.update(predictions, targets)
        states = {state: getattr(metric, state).detach().clone() for state in metric._reductions}
        return {self._key(state): v.double() if v.is_floating_point() else v for state, v in states.items()}

    def figure(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the value for these sums, or one for each of several values."""
        metric = _new(self.name, self.options)
        for state in metric._reductions:
            setattr(metric, state, sums[self._key(state)])
        metric._update_count = 1
        value = metric.compute()
        if isinstance(value, Tensor) and value.numel() == 1:
            return {self.label: float(value)}
        if isinstance(value, Tensor) and value.ndim == 1:
            return {f"{self.label}_{i}": each for i, each in enumerate(value.tolist())}
        return {}

    def _key(self, state: str) -> str:
        return f"{self.label}.{state}"


def _way_out(name: str) -> str:
    if name == "MeanIoU":
        return "; miou, which segmentation has, is that of the summed confusion matrix"
    return ", or give thresholds, a number of them" if any(word in name for word in ("Curve", "AUROC", "Prec")) else ""


def _new(name: str, options: tuple[tuple[str, Any], ...]) -> Any:
    """Return a new metric; torchmetrics' own ones compute in one process here."""
    return _class(name)(**dict(options))


@lru_cache(maxsize=64)
def _class(name: str) -> Any:
    try:
        import torchmetrics
    except ImportError as error:
        raise ValueError(f"{PREFIX}{name} needs torchmetrics; pip install raysplit[metrics]") from error
    homes = [torchmetrics, *(importlib.import_module(f"torchmetrics.{home}") for home in _HOMES)]
    found = next((getattr(home, name) for home in homes if inspect.isclass(getattr(home, name, None))), None)
    if found is None:
        known = [each for home in homes for each in getattr(home, "__all__", ())]
        raise ValueError(f"torchmetrics has no metric {name!r}{nearest(name, known)}")
    return found


def further(name: str, options: Mapping[str, Any], label: str | None, known: Mapping[str, Any]) -> Further:
    """Return a metric, with what the task knows (``num_classes``, ``num_labels``) where its class takes it.

    Raises:
        ValueError: there is no such metric, its arguments do not fit, or its states are not sums.
    """
    if not name.startswith(PREFIX):
        raise ValueError(f"task.metrics has {name!r}; a further metric is named {PREFIX}NAME")
    short = name.removeprefix(PREFIX)
    kind = _class(short)
    takes = inspect.signature(kind.__init__).parameters
    given = {**{key: value for key, value in known.items() if key in takes}, **options}
    found = Further(name=short, label=label or short, options=tuple(sorted(given.items())))
    try:
        found.check()
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"task.metrics: {name} does not take {given}: {error}") from error
    return found
