"""Several tasks in one run: L = sum_k w_k total_k / count_k, each task's loss divided by the count of its own targets.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982) add the tasks' cross-entropies; here each task may be of another
kind and have a weight. A model answers by a mapping with an entry for each task, or by one tensor [N, K] with the
outputs of the tasks side by side, in their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from raysplit.tasks.outputs import as_tensors
from raysplit.tasks.task import Better, ElementTask, Sums, Task

SEVERAL = "several"
"""Name of the kind of several tasks together."""


@dataclass(frozen=True, kw_only=True)
class SeveralTasks(Task):
    """Several tasks by name; a node that has outputs of some of them alone computes the loss of these.

    Figures are those of the tasks, ``rmse_size`` for the task ``size``, and the plain sum of their losses, ``loss``,
    which does not depend on the weights; where all tasks are classifications also their mean ``accuracy``.

    Attributes:
        each: the tasks with their names, in order.
        weights: the weight of each task's loss.

    Raises:
        ValueError: there is no task, or no weight above 0.
    """

    kind: ClassVar[str] = SEVERAL

    each: tuple[tuple[str, ElementTask], ...]
    weights: tuple[float, ...]
    loss: str = "sum"
    primary: str = ""

    def __post_init__(self) -> None:
        if not self.each:
            raise ValueError("there are several tasks with a kind of their own, and none is named; name one")
        if not any(weight > 0 for weight in self.weights):
            raise ValueError(f"the weights of the tasks {', '.join(self.tasks)} are all 0; give one of them more")
        object.__setattr__(self, "primary", next(iter(self.directions)))

    @property
    def tasks(self) -> dict[str, ElementTask]:
        """The tasks by name."""
        return dict(self.each)

    @property
    def are_classes(self) -> bool:
        """Whether all tasks are classifications."""
        return all(task.kind == "classification" for _, task in self.each)

    @property
    def directions(self) -> dict[str, Better]:
        joint: dict[str, Better] = {"accuracy": "higher"} if self.are_classes else {}
        own = {_of(name, key): better for name, task in self.each for key, better in task.directions.items()}
        return {**joint, "loss": "lower", **own}

    @property
    def has_naive(self) -> bool:
        return all(task.has_naive for _, task in self.each)

    def units(self) -> dict[str, Any]:
        """Return the units of each task that has some, by its name."""
        return {name: units for name, task in self.each if (units := task.units())}

    # -- loss ----------------------------------------------------------------------------------------------------

    def answered(self, outputs: Any) -> dict[str, Tensor]:
        """Return the outputs of each task that there are some of. Raises ``ValueError`` where there are none."""
        found = as_tensors(outputs)
        if isinstance(found, Tensor):
            return self._side_by_side(found)
        named = {name: found[name] for name, _ in self.each if name in found}
        if not named:
            raise ValueError(
                f"the model returns {', '.join(found)}, and the tasks are {', '.join(self.tasks)}; let it return a "
                f"mapping with an entry for each task"
            )
        return named

    def _side_by_side(self, output: Tensor) -> dict[str, Tensor]:
        widths = [task.num_outputs for _, task in self.each]
        if output.ndim != 2 or output.shape[1] != sum(widths):
            told = ", ".join(f"{width} for {name}" for (name, _), width in zip(self.each, widths, strict=True))
            raise ValueError(
                f"the model returns one tensor of shape {list(output.shape)}, and the tasks take {sum(widths)} numbers "
                f"for each sample ({told}); use a model with {sum(widths)} outputs, or one that returns a mapping with "
                f"an entry for each task"
            )
        return dict(zip(self.tasks, torch.split(output, widths, dim=1), strict=True))

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        return reduce(add, self.by_task(outputs, targets).values())

    def by_task(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        """Return the mean loss of each task that there are outputs of, times its weight."""
        made = self.answered(outputs)
        each = zip(self.each, self.weights, strict=True)
        return {name: weight * task(made[name], targets[name]) for (name, task), weight in each if name in made}

    def counts(self, targets: Any) -> dict[str, int]:
        """Return the number of counted elements of each task."""
        return {name: task.count(targets[name]) for name, task in self._in(targets)}

    def count(self, targets: Any) -> int:
        """Return the number of samples that have a target of any task."""
        known = [task.counted(y := targets[name]).reshape(len(y), -1) for name, task in self._in(targets)]
        return int(torch.stack([counted.any(1) for counted in known]).any(0).sum())

    def _in(self, targets: Mapping[str, Any]) -> Iterator[tuple[str, ElementTask]]:
        return ((name, task) for name, task in self.each if name in targets)

    # -- figures -------------------------------------------------------------------------------------------------

    def sums(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        made = self.answered(outputs)
        own = {name: task.sums(made[name], targets[name]) for name, task in self._in(made)}
        loss = reduce(add, [sums["loss"] for sums in own.values()])
        return {"count": torch.tensor(self.count(targets)), "loss": loss, **_joined(own)}

    def figures(self, sums: Sums) -> dict[str, float]:
        own = {name: task.figures(found) for name, task in self.each if (found := _part(sums, name))}
        return self._with_joint({_of(name, key): value for name, found in own.items() for key, value in found.items()})

    def _with_joint(self, found: Mapping[str, float]) -> dict[str, float]:
        """Return the figures of the tasks behind those of all together, as far as the tasks have them."""
        joint: dict[str, float] = {}
        for key in ("accuracy", "loss") if self.are_classes else ("loss",):
            values = [found[of] for name in self.tasks if (of := _of(name, key)) in found]
            if values:
                joint[key] = sum(values) / (len(values) if key == "accuracy" else 1)
        return {**joint, **{name: value for name, value in found.items() if name not in joint}}

    def mean_figures(self, found: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Return the means over models task by task, and what follows from them for all tasks together."""
        return self._with_joint(super().mean_figures(found))

    # -- targets -------------------------------------------------------------------------------------------------

    def statistic(self, targets: Any) -> dict[str, Tensor]:
        return _joined({name: task.statistic(targets[name]) for name, task in self.each})

    def merged(self, statistics: Sequence[Sums]) -> dict[str, Tensor]:
        return _joined({name: task.merged([_part(one, name) for one in statistics]) for name, task in self.each})

    @property
    def takes_statistic(self) -> bool:
        return any(task.takes_statistic for _, task in self.each)

    @property
    def stated(self) -> Task:
        each = tuple((name, task) for name, task in self.each if task.takes_statistic)
        return replace(self, each=each, weights=(1.0,) * len(each)) if each else self

    def prepared(self, statistic: Sums) -> Self:
        return replace(self, each=tuple((name, task.prepared(_part(statistic, name))) for name, task in self.each))

    def naive(self, statistic: Sums, targets: Any) -> dict[str, Tensor]:
        return _joined({name: task.naive(_part(statistic, name), targets[name]) for name, task in self.each})

    def naive_figures(self, sums: Sums) -> dict[str, float]:
        own = {name: task.naive_figures(_part(sums, name)) for name, task in self.each}
        figures = self._with_joint({_of(name, k): value for name, found in own.items() for k, value in found.items()})
        if any("loss" not in found for found in own.values()):  # a sum without one of them would be of less tasks
            figures.pop("loss", None)
        return figures

    def check(self, targets: Any, whose: str, *, first_row: int = 0) -> None:
        for name, task in self.each:
            task.check(targets[name], f"{name}{whose.removeprefix('y')}", first_row=first_row)


def _of(task: str, figure: str) -> str:
    return f"{figure}_{task}"


def _joined(own: Mapping[str, Sums]) -> dict[str, Tensor]:
    return {f"{name}/{key}": value for name, sums in own.items() for key, value in sums.items()}


def _part(sums: Sums, name: str) -> dict[str, Tensor]:
    """Return the sums of one task."""
    return {key.removeprefix(f"{name}/"): value for key, value in sums.items() if key.startswith(f"{name}/")}
