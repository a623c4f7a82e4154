"""Regression: numbers for each sample, [N] or [N, D] outputs and targets, NaN where one is missing.

The model learns in standardized units, (y - mean) / std of each column, and figures are in the units of the targets.
Mean and standard deviation come from the task, or from the owners' training targets: each owner's count, mean and sum
of squared deviations, merged in owner order (Chan, Golub, LeVeque 1983, "Algorithms for computing the sample
variance").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from raysplit.tasks.checks import refuse, refuse_kind
from raysplit.tasks.confusion import mean_of_known
from raysplit.tasks.task import Better, ElementTask, Sums

_LOSSES: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss}


@dataclass(frozen=True, kw_only=True)
class Regression(ElementTask):
    """Numbers for each sample; squared error in standardized units, RMSE, MAE and R2 in the targets' units.

    Attributes:
        mean: mean of each column of the targets [D]; empty before it is known.
        std: their standard deviations [D].
    """

    kind: ClassVar[str] = "regression"
    better: ClassVar[Mapping[str, Better]] = {"rmse": "lower", "loss": "lower", "mae": "lower", "r2": "higher"}
    losses: ClassVar[tuple[str, ...]] = ("mse", "l1", "huber")
    wanted: ClassVar[str] = "numbers for each sample, [N] or [N, D]"

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.mean) != len(self.std):
            raise ValueError(f"task.mean has {len(self.mean)} numbers and task.std {len(self.std)}; give both")
        if self.mean and len(self.mean) != self.num_outputs:
            raise ValueError(
                f"task.mean has {len(self.mean)} numbers, and the targets have {self.num_outputs}; give one for each"
            )
        if any(not std > 0 for std in self.std):
            raise ValueError(f"task.std is {list(self.std)}; standard deviations are above 0")

    def fitted(self, output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs and standardized targets [N, D]. Raises ``ValueError`` where the shapes differ."""
        columns = targets if targets.ndim > 1 else targets[:, None]
        made = output if output.ndim > 1 else output[:, None]
        if made.shape != columns.shape:
            raise ValueError(
                f"regression compares outputs and targets of one shape, and they are {list(output.shape)} and "
                f"{list(targets.shape)}; use a model with {self.num_outputs} outputs"
            )
        mean, std = self._scale(columns)
        return made, ((columns.double() - mean) / std).to(made.dtype)

    def _scale(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        return tuple(  # type: ignore[return-value]
            torch.tensor(values or [usual], dtype=torch.float64, device=columns.device)
            for values, usual in ((self.mean, 0.0), (self.std, 1.0))
        )

    def counted(self, targets: Tensor) -> Tensor:
        return ~targets.isnan() if targets.is_floating_point() else torch.ones_like(targets, dtype=torch.bool)

    def element_losses(self, output: Tensor, targets: Tensor) -> Tensor:
        counted = self.counted(targets)
        known = targets.where(counted, 0)
        return _LOSSES[self.loss](output, known, reduction="none").where(counted, 0)

    def _sums(self, output: Tensor, targets: Tensor, counted: Tensor) -> dict[str, Tensor]:
        _, std = self._scale(targets)
        deviation = targets.double().where(counted, 0) * std  # from the mean of the task, which keeps sums small
        error = (output.double() * std - deviation).where(counted, 0)
        return {
            "numbers": counted.sum(0),
            "squared_error": error.square().sum(0),
            "absolute_error": error.abs().sum(0),
            "deviation": deviation.sum(0),
            "squared_deviation": deviation.square().sum(0),
        }

    def _elements(self, output: Tensor, targets: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = self._scale(targets)
        made, wanted = ((values.double() * std + mean) for values in (output, targets))
        if self.num_outputs == 1:
            return made[counted].float(), wanted[counted].float()
        whole = counted.all(1)
        return made[whole].float(), wanted[whole].float()

    def _figures(self, sums: Sums) -> dict[str, float]:
        count, numbers = int(sums["count"]), sums["numbers"].double()
        spread = sums["squared_deviation"] - sums["deviation"].square() / numbers
        spread = spread.where(spread > 1e-12 * sums["squared_deviation"], float("nan"))  # a constant target has none
        return {
            "rmse": math.sqrt(float(sums["squared_error"].sum()) / count),
            "mae": float(sums["absolute_error"].sum()) / count,
            "r2": mean_of_known(1 - sums["squared_error"] / spread),
        }

    def statistic(self, targets: Tensor) -> dict[str, Tensor]:
        """Return number, mean and sum of squared deviations of each column [D]."""
        columns = (targets if targets.ndim > 1 else targets[:, None]).double()
        counted = self.counted(columns)
        number = counted.sum(0)
        mean = columns.where(counted, 0).sum(0) / number.clamp(min=1)
        squares = (columns - mean).where(counted, 0).square().sum(0)
        return {"number": number, "mean": mean, "squares": squares}

    def merged(self, statistics: Sequence[Sums]) -> dict[str, Tensor]:
        """Merge the statistics of the owners one after the other."""
        total = dict(statistics[0])
        for other in statistics[1:]:
            number = total["number"] + other["number"]
            share = other["number"].double() / number.clamp(min=1)
            delta = other["mean"] - total["mean"]
            total = {
                "number": number,
                "mean": total["mean"] + delta * share,
                "squares": total["squares"] + other["squares"] + delta.square() * total["number"] * share,
            }
        return total

    def prepared(self, statistic: Sums) -> Self:
        if self.mean:
            return self
        std = (statistic["squares"] / statistic["number"].clamp(min=1)).sqrt()
        std = std.where(std > 0, 1)
        return replace(self, mean=tuple(statistic["mean"].tolist()), std=tuple(std.tolist()))

    def units(self) -> dict[str, Any]:
        """Return mean and standard deviation of each target: an estimate is output * std + mean."""
        return {"mean": list(self.mean), "std": list(self.std)}

    def constant(self, statistic: Sums) -> Tensor:
        """Return the training mean of each column [D], in standardized units."""
        mean, std = self._scale(statistic["mean"])
        return (statistic["mean"] - mean) / std

    def repeated(self, constant: Tensor, targets: Tensor) -> Tensor:
        return constant.expand(len(targets), -1).to(torch.float64)

    def check(self, targets: Tensor, whose: str, *, first_row: int = 0) -> None:
        if targets.ndim > 2 or targets.is_complex():
            refuse_kind(targets, self, whose)
        refuse(targets.isinf(), targets, whose, "numbers are finite, and NaN where one is missing", first_row)
