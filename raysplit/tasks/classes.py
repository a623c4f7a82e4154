"""What kinds whose targets are classes have in common: one cross-entropy per sample, pixel or token."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from raysplit.tasks.checks import require_classes, require_whole
from raysplit.tasks.confusion import confusion
from raysplit.tasks.task import ElementTask, Sums

NO_LABEL = -100
"""Target of a sample or token that has none."""


@dataclass(frozen=True, kw_only=True)
class ClassTask(ElementTask):
    """A task with one class for each element.

    `fitted` outputs have the classes in dimension 1, as torch's cross-entropy takes them.
    """

    usual_ignored: ClassVar[int | None] = NO_LABEL
    target_ndim: ClassVar[int]
    """Dimensions of a batch of targets."""

    @abstractmethod
    def _classes_first(self, output: Tensor, targets: Tensor) -> Tensor | None:
        """Return outputs [N, C, ...] for the elements of these targets; None where they have another shape."""

    def fitted(self, output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs [N, C, ...] and int64 targets [N, ...]. Raises ``ValueError`` where they do not fit."""
        moved = self._classes_first(output, targets) if targets.ndim == self.target_ndim else None
        if moved is None or moved.shape[1] < self.num_outputs:
            raise ValueError(
                f"{self.kind} takes {self._outputs_wanted}, and the outputs are {list(output.shape)} for targets "
                f"{list(targets.shape)}; use a model with {self.num_outputs} outputs for each"
            )
        return moved, targets.long()

    _outputs_wanted: ClassVar[str]

    def counted(self, targets: Tensor) -> Tensor:
        assert self.ignore_index is not None
        return targets.ne(self.ignore_index)

    def element_losses(self, output: Tensor, targets: Tensor) -> Tensor:
        assert self.ignore_index is not None
        return F.cross_entropy(output, targets, ignore_index=self.ignore_index, reduction="none")

    def _sums(self, output: Tensor, targets: Tensor, counted: Tensor) -> dict[str, Tensor]:
        predicted = output.argmax(1)[counted]
        return {"confusion": confusion(predicted, targets[counted], output.shape[1])}

    def _elements(self, output: Tensor, targets: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        return output.movedim(1, -1)[counted], targets[counted]

    def _scored(self, by_class: Tensor) -> Tensor:
        """Return a figure of each class [C] with NaN for the class that is not counted, which has no right answers."""
        if self.ignore_index is None or not 0 <= self.ignore_index < len(by_class):
            return by_class
        return by_class.index_fill(0, torch.tensor([self.ignore_index]), float("nan"))

    def statistic(self, targets: Tensor) -> dict[str, Tensor]:
        """Count the elements of each class [C]."""
        chosen = targets[self.counted(targets)].long()
        return {"classes": torch.bincount(chosen, minlength=self.num_outputs)}

    def constant(self, statistic: Sums) -> Tensor:
        """Return the logarithms [C] of the classes' shares, each class counted once more than it occurs."""
        counts = statistic["classes"].double() + 1
        return (counts / counts.sum()).log().float()

    def repeated(self, constant: Tensor, targets: Tensor) -> Tensor:
        shape = (len(targets), len(constant), *targets.shape[1:])
        return constant.reshape(1, -1, *[1] * (targets.ndim - 1)).expand(shape)

    def check(self, targets: Tensor, whose: str, *, first_row: int = 0) -> None:
        require_whole(targets, self, self.target_ndim, whose)
        require_classes(targets, self.num_outputs, self.ignore_index, whose, first_row)


@dataclass(frozen=True, kw_only=True)
class TokenTask(ClassTask):
    """A task with one class for each token: outputs [N, T, C] and targets [N, T]."""

    target_ndim: ClassVar[int] = 2

    def _classes_first(self, output: Tensor, targets: Tensor) -> Tensor | None:
        return output.movedim(-1, 1) if output.shape[:-1] == targets.shape else None

    def repeated(self, constant: Tensor, targets: Tensor) -> Tensor:
        return constant.expand(*targets.shape, len(constant))


def by_class(name: str, values: Tensor) -> Mapping[str, float]:
    """Return a figure of each class by its number, without classes that do not occur."""
    return {f"{name}_{i}": value for i, value in enumerate(values.tolist()) if value == value}
