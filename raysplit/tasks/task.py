"""What a model learns, as a record: loss with its count, figures from sums, and the baseline that ignores the inputs.

The loss of a step is one mean over all *counted elements* of the step: labels, pixels, tokens or numbers that are not
missing. It is never a mean of means, because batches and owners have different numbers of them. Figures are computed
from sums over elements, whole numbers and float64, that are added over batches and owners in their order, so that they
depend neither on places nor on timing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from raysplit.tasks.further import Further
from raysplit.tasks.outputs import answer, auxiliary

Better = Literal["higher", "lower"]
Sums = Mapping[str, Tensor]
"""Sums by name, whole numbers or float64; those of several batches or owners are added."""


class Task(ABC):
    """What a run learns, one task or several. It is the loss of a step: ``task(outputs, targets)`` is that of a batch.

    Attributes:
        loss: name of the loss.
        primary: the figure that the best round, ``target``, ``patience``, reports and sweeps follow.
    """

    kind: ClassVar[str]
    """The name in a configuration file."""
    rows_per_batch: ClassVar[int] = 256
    """Number of samples that are evaluated together."""

    loss: str
    primary: str

    @property
    @abstractmethod
    def directions(self) -> dict[str, Better]:
        """All figures with one value, with their directions."""

    @property
    def has_naive(self) -> bool:
        """Whether the baseline that ignores the inputs is worth its memory."""
        return True

    def units(self) -> dict[str, Any]:
        """Return what turns outputs into the targets' units, for those who use the model; empty where nothing does."""
        return {}

    @abstractmethod
    def answered(self, outputs: Any) -> Any:
        """Return what the loss and the figures are about, of all that a model returns. Raises ``ValueError``."""

    @abstractmethod
    def count(self, targets: Any) -> int:
        """Return the number of counted elements of a batch of targets."""

    @abstractmethod
    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        """Return the loss of a batch; 0, with a gradient of 0, where nothing counts."""

    @abstractmethod
    def sums(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        """Return the sums of a batch from which `figures` are computed; auxiliary outputs are left out."""

    @abstractmethod
    def figures(self, sums: Sums) -> dict[str, float]:
        """Return the figures by name; those that the sums do not determine are left out."""

    def mean_figures(self, found: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Return the means of the figures of several models, each over those that have it."""
        names = dict.fromkeys(name for each in found for name in each)
        values = {name: [each[name] for each in found if name in each] for name in names}
        return {name: sum(each) / len(each) for name, each in values.items()}

    @abstractmethod
    def statistic(self, targets: Any) -> dict[str, Tensor]:
        """Return what the naive baseline needs of training targets."""

    @abstractmethod
    def merged(self, statistics: Sequence[Sums]) -> dict[str, Tensor]:
        """Return the statistic of the targets of all owners, in owner order."""

    @property
    def takes_statistic(self) -> bool:
        """Whether `prepared` takes something from the statistic, so that owners have to say it."""
        return type(self).prepared is not Task.prepared

    @property
    def stated(self) -> Task:
        """The task whose statistic `prepared` takes: of several tasks, those that take something from it."""
        return self

    def prepared(self, statistic: Sums) -> Self:
        """Return the task with what it takes from the statistic of the training targets."""
        return self

    @abstractmethod
    def naive(self, statistic: Sums, targets: Any) -> dict[str, Tensor]:
        """Return the `sums` of the model that ignores its inputs over a set of targets."""

    @abstractmethod
    def naive_figures(self, sums: Sums) -> dict[str, float]:
        """Return the figures of the model that ignores its inputs, without those that its outputs say nothing of."""

    @abstractmethod
    def check(self, targets: Any, whose: str, *, first_row: int = 0) -> None:
        """Raise ``ValueError``, with the row and the rule, for targets that are not of this task.

        Args:
            targets: some rows of them.
            whose: what they are and whose, for the message.
            first_row: number of the first row.
        """


@dataclass(frozen=True, kw_only=True)
class ElementTask(Task):
    """One learning task. As the loss of a step it is the mean over the counted elements.

    Attributes:
        num_outputs: number of classes, labels, tokens of the vocabulary, or numbers to estimate.
        loss: name of the loss, one of `losses`.
        ignore_index: the target that is not counted; for kinds whose targets are classes.
        primary: the figure that the best round, ``target``, ``patience``, reports and sweeps follow.
        further: metrics beside those of the kind.

    Raises:
        ValueError: there is no such loss or figure.
    """

    better: ClassVar[Mapping[str, Better]]
    """The figures of the kind with their directions; the first one is the usual primary metric."""
    losses: ClassVar[tuple[str, ...]] = ("cross_entropy",)
    """Names of the losses; the first one is the usual one."""
    usual_ignored: ClassVar[int | None] = None
    """The usual ``ignore_index``; None where targets are no classes."""
    wanted: ClassVar[str]
    """The targets that the kind takes, in words."""
    not_naive: ClassVar[tuple[str, ...]] = ()
    """Figures that a model without inputs does not have."""

    num_outputs: int
    loss: str = ""
    ignore_index: int | None = None
    primary: str = ""
    further: tuple[Further, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss", self.loss or self.losses[0])
        if self.loss not in self.losses:
            raise ValueError(f"task.loss is {self.loss!r}, and {self.kind} trains with {' or '.join(self.losses)}")
        if self.ignore_index is None:
            object.__setattr__(self, "ignore_index", self.usual_ignored)
        elif self.usual_ignored is None:
            raise ValueError(
                f"task.ignore_index is {self.ignore_index}, and targets of {self.kind} are no classes; mark missing "
                f"ones with NaN, and leave it out"
            )
        object.__setattr__(self, "primary", self.primary or next(iter(self.better)))
        if self.primary not in self.directions:
            raise ValueError(
                f"task.primary is {self.primary!r}, and {self.kind} has the figures {', '.join(self.directions)}"
            )

    @property
    def directions(self) -> dict[str, Better]:
        """All figures with one value, with their directions."""
        return {**self.better, **{metric.label: metric.better for metric in self.further}}

    def answered(self, outputs: Any) -> Tensor:
        return answer(outputs)

    # -- loss ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def fitted(self, output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs and targets in the shapes and types of the loss. Raises ``ValueError`` where they differ."""

    @abstractmethod
    def counted(self, targets: Tensor) -> Tensor:
        """Return which elements of the targets [N, ...] are counted."""

    @abstractmethod
    def element_losses(self, output: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of every element [N, ...] of `fitted` values, 0 with a gradient of 0 where not counted."""

    def count(self, targets: Any) -> int:
        return int(self.counted(targets).sum())

    def total(self, outputs: Any, targets: Tensor) -> tuple[Tensor, int]:
        """Return the sum of the losses of the counted elements of a batch, and their number.

        The losses of auxiliary outputs are added with their weights.
        """
        total = self.element_losses(*self.fitted(answer(outputs), targets)).sum()
        for weight, output in auxiliary(outputs):
            total = total + weight * self.element_losses(*self.fitted(output, targets)).sum()
        return total, self.count(targets)

    def by_sample(self, outputs: Any, targets: Tensor) -> Tensor:
        """Return the sum of the losses of the counted elements of each sample [N], auxiliary outputs left out."""
        losses = self.element_losses(*self.fitted(answer(outputs), targets))
        return losses.reshape(len(losses), -1).sum(1)

    def weighted_total(self, outputs: Any, targets: Tensor, weights: Tensor) -> Tensor:
        """Return the sum that `total` returns, in which the losses of each sample have a weight [N]."""
        found = []
        for weight, output in [(1.0, answer(outputs)), *auxiliary(outputs)]:
            losses = self.element_losses(*self.fitted(output, targets))
            found.append(weight * (losses * weights.reshape(-1, *[1] * (losses.ndim - 1))).sum())
        return reduce(add, found)

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        """Return the mean loss over the counted elements of a batch; 0, with a gradient of 0, without any."""
        total, count = self.total(outputs, targets)
        return total / max(count, 1)

    # -- figures -------------------------------------------------------------------------------------------------

    def sums(self, outputs: Any, targets: Tensor) -> dict[str, Tensor]:
        output, targets = self.fitted(answer(outputs), targets)
        counted = self.counted(targets)
        found = {
            "count": counted.sum(),
            "loss": self.element_losses(output, targets).double().sum(),
            **self._sums(output, targets, counted),
        }
        for metric in self.further:
            found |= metric.sums(*self._elements(output, targets, counted))
        return found

    @abstractmethod
    def _sums(self, output: Tensor, targets: Tensor, counted: Tensor) -> dict[str, Tensor]:
        """Return the sums of the kind."""

    @abstractmethod
    def _elements(self, output: Tensor, targets: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """Return predictions and targets of the counted elements for a metric of a library."""

    def figures(self, sums: Sums) -> dict[str, float]:
        if not int(sums["count"]):
            return {}
        found = {"loss": float(sums["loss"]) / int(sums["count"]), **self._figures(sums)}
        for metric in self.further:
            found |= metric.figure(sums)
        return {name: value for name, value in found.items() if name == "r2" or not math.isnan(value)}

    @abstractmethod
    def _figures(self, sums: Sums) -> dict[str, float]:
        """Return the figures of the kind beside the mean loss."""

    # -- targets -------------------------------------------------------------------------------------------------

    def merged(self, statistics: Sequence[Sums]) -> dict[str, Tensor]:
        return {name: torch.stack([each[name] for each in statistics]).sum(0) for name in statistics[0]}

    @abstractmethod
    def constant(self, statistic: Sums) -> Tensor:
        """Return the outputs for one sample's element that a model would give that ignores its inputs."""

    @abstractmethod
    def repeated(self, constant: Tensor, targets: Tensor) -> Tensor:
        """Return the outputs of such a model for a batch of targets."""

    def naive(self, statistic: Sums, targets: Tensor) -> dict[str, Tensor]:
        constant, total = self.constant(statistic), dict[str, Tensor]()
        for part in torch.split(targets, self.rows_per_batch):
            total = added(total, self.sums(self.repeated(constant, part), part))
        return total

    def naive_figures(self, sums: Sums) -> dict[str, float]:
        return {name: value for name, value in self.figures(sums).items() if name not in self.not_naive}


def added(one: Sums, other: Sums) -> dict[str, Tensor]:
    """Add the sums of two batches, shards or owners."""
    return {**one, **{name: one[name] + value if name in one else value for name, value in other.items()}}
