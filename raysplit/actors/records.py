"""The small records that travel with the calls of a round."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from raysplit.seeding import derive

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StepId:
    """Says which owner's which step a call belongs to; a node refuses one that is not the present one."""

    num_bytes: ClassVar[int] = 0  # no tensors: it weighs nothing on a link

    owner: str
    round: int
    step: int
    attempt: int = 0

    def stream(self, seed: int, purpose: str) -> int:
        """The seed of this step's stream for a purpose, for example its dropout masks."""
        return derive(seed, self.owner, "round", self.round, "step", self.step, purpose)


@dataclass(frozen=True, kw_only=True)
class RoundContext:
    """What the coordinator asks of everybody in one round.

    Attributes:
        round: counted from 0.
        attempt: raised when the round is repeated after a loss.
        cohort: the owners that take part, in owner order.
        weights: their weights in every average, positive, summing to 1 over the cohort.
        num_steps: mini-batches per owner; owners that must keep step cycle a smaller data set.
        lr_scale: the schedule's factor on every learning rate in this round.
        record_gradients: owners keep the mean of this round's mini-batch gradients of their first part.
    """

    num_bytes: ClassVar[int] = 0

    round: int
    cohort: tuple[str, ...]
    weights: tuple[float, ...]
    num_steps: tuple[int, ...]
    lr_scale: float = 1.0
    attempt: int = 0
    record_gradients: bool = False

    @cached_property
    def _places(self) -> dict[str, int]:
        return {owner: place for place, owner in enumerate(self.cohort)}

    def __contains__(self, owner: str) -> bool:
        """Whether the owner takes part."""
        return owner in self._places

    def weight(self, owner: str) -> float:
        return self.weights[self._places[owner]]

    def steps(self, owner: str) -> int:
        return self.num_steps[self._places[owner]]


@dataclass(frozen=True, kw_only=True)
class OwnerReport:
    """What an owner tells the coordinator at the end of its round: the sample-weighted mean loss and counts."""

    owner: str
    loss: float
    num_samples: int
    num_steps: int
    values: tuple[tuple[str, float], ...] = ()


def log_report(context: RoundContext, report: OwnerReport) -> OwnerReport:
    """The report, after a line about it in the log of the place where the owner lives."""
    logger.debug(
        "%s, round %d: loss %.4f over %d samples in %d steps",
        report.owner,
        context.round + 1,
        report.loss,
        report.num_samples,
        report.num_steps,
    )
    return report


class NonFiniteLoss(ArithmeticError):
    """The loss became NaN or infinite; the message names owner, round and step, counted from 1 as in the metrics."""

    def __init__(self, owner: str, round: int, step: int, value: float) -> None:
        super().__init__(
            f"the loss of {owner} is {value} in round {round + 1}, step {step + 1}; lower the learning rate or look at "
            f"this owner's data (the last good round is saved)"
        )
        self.owner, self.round, self.step, self.value = owner, round, step, value

    def __reduce__(self) -> tuple[type[NonFiniteLoss], tuple[str, int, int, float]]:
        return type(self), (self.owner, self.round, self.step, self.value)


class StaleCall(RuntimeError):
    """A call of an earlier round or attempt, or of a step that is not under way."""
