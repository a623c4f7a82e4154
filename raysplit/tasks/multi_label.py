"""Multi-label classification: several labels for each sample, [N, C] logits and targets [N, C] of 0, 1 or NaN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from raysplit.tasks.checks import refuse, refuse_kind
from raysplit.tasks.confusion import mean_of_known
from raysplit.tasks.task import Better, ElementTask, Sums

_BINS = 200  # of the predicted probability, for the area under the curve


@dataclass(frozen=True, kw_only=True)
class MultiLabel(ElementTask):
    """Several labels for each sample; binary cross-entropy, F1 at logit 0, exact match and area under the curve."""

    kind: ClassVar[str] = "multi_label"
    better: ClassVar[Mapping[str, Better]] = {
        "macro_f1": "higher",
        "loss": "lower",
        "micro_f1": "higher",
        "exact_match": "higher",
        "auroc": "higher",
    }
    losses: ClassVar[tuple[str, ...]] = ("binary_cross_entropy",)
    not_naive: ClassVar[tuple[str, ...]] = ("loss",)  # its logits say yes or no, and no probability
    wanted: ClassVar[str] = "0 or 1 for each label of a sample, NaN where it is missing, numbers [N, C]"

    def fitted(self, output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and targets [N, C] of one type. Raises ``ValueError`` where the shapes differ."""
        if output.shape != targets.shape or targets.ndim != 2:
            raise ValueError(
                f"multi_label takes one logit for each label, and the outputs are {list(output.shape)} for targets "
                f"{list(targets.shape)}; use a model with {self.num_outputs} outputs"
            )
        return output, targets.to(output.dtype)

    def counted(self, targets: Tensor) -> Tensor:
        return ~targets.isnan() if targets.is_floating_point() else torch.ones_like(targets, dtype=torch.bool)

    def element_losses(self, output: Tensor, targets: Tensor) -> Tensor:
        counted = self.counted(targets)
        losses = F.binary_cross_entropy_with_logits(output, targets.where(counted, 0), reduction="none")
        return losses.where(counted, 0)

    def _sums(self, output: Tensor, targets: Tensor, counted: Tensor) -> dict[str, Tensor]:
        yes, guessed = (targets == 1) & counted, (output > 0) & counted
        whole = counted.any(1)
        bins = (output.double().sigmoid() * _BINS).long().clamp(max=_BINS - 1)
        return {
            "hit": (yes & guessed).sum(0),
            "false_alarm": (guessed & ~yes).sum(0),
            "missed": (yes & ~guessed).sum(0),
            "rows": whole.sum(),
            "rows_right": ((yes == guessed).all(1) & whole).sum(),
            "bins_yes": _histogram(bins, yes),
            "bins_no": _histogram(bins, counted & ~yes),
        }

    def _elements(self, output: Tensor, targets: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        return output.sigmoid(), targets.where(counted, -1).long()

    def _figures(self, sums: Sums) -> dict[str, float]:
        wrong = sums["false_alarm"] + sums["missed"]
        rows = int(sums["rows"])
        return {
            "macro_f1": mean_of_known(_f1(sums["hit"], wrong)),
            "micro_f1": float(_f1(sums["hit"].sum(), wrong.sum())),
            "exact_match": int(sums["rows_right"]) / rows if rows else float("nan"),
            "auroc": mean_of_known(_area(sums["bins_yes"], sums["bins_no"])),
        }

    def statistic(self, targets: Tensor) -> dict[str, Tensor]:
        """Count the samples that have each label [C], and those of which it is known."""
        return {"yes": (targets == 1).sum(0), "known": self.counted(targets).sum(0)}

    def constant(self, statistic: Sums) -> Tensor:
        """Return +1 for each label [C] that occurs: always saying yes then has the better F1 in training."""
        return torch.where(statistic["yes"] > 0, 1.0, -1.0)

    def repeated(self, constant: Tensor, targets: Tensor) -> Tensor:
        return constant.expand(len(targets), -1)

    def check(self, targets: Tensor, whose: str, *, first_row: int = 0) -> None:
        if targets.ndim != 2:
            refuse_kind(targets, self, whose)
        bad = self.counted(targets) & (targets != 0) & (targets != 1)
        refuse(bad, targets, whose, "labels are 0 or 1, and NaN where one is missing", first_row)


def _histogram(bins: Tensor, chosen: Tensor) -> Tensor:
    """Count, for each label, the chosen samples in each bin, [C, bins]."""
    num_labels = bins.shape[1]
    places = bins + torch.arange(num_labels) * _BINS
    return torch.bincount(places[chosen], minlength=num_labels * _BINS).reshape(num_labels, _BINS)


def _f1(hit: Tensor, wrong: Tensor) -> Tensor:
    return 2 * hit.double() / (2 * hit + wrong).double()


def _area(yes: Tensor, no: Tensor) -> Tensor:
    """Return the area under the curve of each label [C]; in a bin, half of the pairs count. NaN without pairs."""
    below = no.cumsum(1) - no
    won = (yes * (2 * below + no)).sum(1).double() / 2
    return won / (yes.sum(1) * no.sum(1)).double()
