"""The records that the calls of a round carry, and the errors that they raise."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

from raysplit.cluster.arriving.errors import BadValue as BadValue
from raysplit.cluster.arriving.errors import NonFiniteLoss as NonFiniteLoss
from raysplit.seeding import derive

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StepId:
    """The identity of one owner's step; a party refuses a call for a step that is not the present one.

    Attributes:
        owner: the name of the owner.
        round: the round, counted from 0.
        step: the step within the round, counted from 0.
        attempt: how often the round has been repeated.
        micro: the number of the micro-batch within the step, counted from 0, where gradients are accumulated.
        num_micro: the number of micro-batches of the step.
        counted: the number of targets in all micro-batches of the step, by which the sum of their losses is divided;
            that of each task where samples have several targets. 0 in calls that need it not, and for steps of one
            batch.
    """

    owner: str
    round: int
    step: int
    attempt: int = 0
    micro: int = 0
    num_micro: int = 1
    counted: int | Mapping[str, int] = field(default=0, compare=False)

    @property
    def num_bytes(self) -> int:
        """The size on a link: that of the counts of targets, where they are sent."""
        return 8 * (len(self.counted) if isinstance(self.counted, Mapping) else bool(self.counted))

    @property
    def is_last(self) -> bool:
        """Whether the step ends with this micro-batch."""
        return self.micro + 1 == self.num_micro

    @property
    def untold(self) -> StepId:
        """The same for parties that need not know how many targets the step has."""
        return replace(self, counted=0) if self.counted else self

    def told_of(self, tasks: Collection[str]) -> StepId:
        """Return the same for a party that computes the losses of some tasks."""
        if not isinstance(self.counted, Mapping):
            return self
        return replace(self, counted={task: self.counted[task] for task in tasks})

    def stream(self, seed: int, purpose: str) -> int:
        """Derive the seed of this step's random stream for a purpose, such as ``"dropout"``."""
        micro = ("micro", self.micro) if self.micro else ()
        return derive(seed, self.owner, "round", self.round, "step", self.step, purpose, *micro)


@dataclass(frozen=True, kw_only=True)
class RoundContext:
    """The instruction of one round, from the coordinator to all parties.

    Attributes:
        round: the round, counted from 0.
        cohort: names of the owners that take part, in owner order.
        weights: their weights in every average, positive and summing to 1, in the order of the cohort.
        num_steps: their numbers of mini-batches, in the order of the cohort; in lockstep methods, owners with fewer
            samples go through them again.
        row_weights: weights of their rows in a joint step, in the order of the cohort; empty weights all rows alike.
        lr_scale: the schedule's factor on every learning rate in this round.
        attempt: how often the round has been repeated after a lost place.
        record_gradients: whether owners keep the mean of the mini-batch gradients of their first part.
        numbers: the owners' numbers among all owners, which give sums over them their order; empty for those that the
            cohort gives them.
        adds_up: whether all that becomes of the owners' updates is one weighted sum, so that sums of several may be
            submitted in their place.
    """

    num_bytes: ClassVar[int] = 0

    round: int
    cohort: tuple[str, ...]
    weights: tuple[float, ...]
    num_steps: tuple[int, ...]
    row_weights: tuple[float, ...] = ()
    lr_scale: float = 1.0
    attempt: int = 0
    record_gradients: bool = False
    numbers: tuple[int, ...] = ()
    adds_up: bool = False

    @cached_property
    def _places(self) -> dict[str, int]:
        return {owner: place for place, owner in enumerate(self.cohort)}

    def __contains__(self, owner: str) -> bool:
        """Whether the owner takes part in this round."""
        return owner in self._places

    def weight(self, owner: str) -> float:
        """The owner's weight in every average of this round."""
        return self.weights[self._places[owner]]

    def number(self, owner: str) -> int:
        """The owner's number among all owners."""
        place = self._places[owner]
        return self.numbers[place] if self.numbers else place

    def row_weight(self, owner: str) -> float:
        """The weight of each of the owner's rows in a joint step."""
        return self.row_weights[self._places[owner]] if self.row_weights else 1.0

    def steps(self, owner: str) -> int:
        """The owner's number of mini-batches in this round."""
        return self.num_steps[self._places[owner]]


@dataclass(frozen=True, kw_only=True)
class OwnerReport:
    """An owner's report at the end of its round.

    Attributes:
        owner: the name of the owner.
        loss: the mean training loss over all samples that it trained on.
        num_samples: samples trained on, counting a sample once for each epoch.
        num_steps: mini-batches trained on.
        values: further numbers as pairs of name and value.
        told_by: names of the other parties that computed its losses; the loss is their word.
        withheld: whether the owner does not tell its loss, which is 0 then.
    """

    owner: str
    loss: float
    num_samples: int
    num_steps: int
    values: tuple[tuple[str, float], ...] = ()
    told_by: tuple[str, ...] = ()
    withheld: bool = False


def log_report(context: RoundContext, report: OwnerReport) -> OwnerReport:
    """Write a report to the log of the owner's place, and return it."""
    logger.debug(
        "%s, round %d: loss %.4f over %d samples in %d steps",
        report.owner,
        context.round + 1,
        report.loss,
        report.num_samples,
        report.num_steps,
    )
    return report


class NonFiniteNorm(NonFiniteLoss):
    """Raised when the norm of a step's gradients, which are to be clipped, is NaN or infinite."""

    def __init__(self, owner: str, round: int, step: int, value: float) -> None:
        super().__init__(owner, round, step, value)
        self.args = (
            f"the norm of the gradients of {owner} is {value} in round {round + 1}, step {step + 1}, so that they "
            f"cannot be clipped; lower the learning rate or look at this owner's data",
        )


class StaleCall(RuntimeError):
    """Raised for a call of an earlier round or attempt, or of a step that is not under way."""


def is_ahead(at: StepId | RoundContext, context: RoundContext) -> bool:
    """Whether a call says that it is of a round or an attempt that has not begun, as no honest call does.

    After a return to an earlier round, a late call may be of a later round, but of an earlier attempt.
    """
    if type(at.round) is not int or type(at.attempt) is not int:
        return True
    is_later = at.round > context.round or at.attempt > context.attempt
    return is_later and at.round >= context.round and at.attempt >= context.attempt


def note_place(error: Exception, place: str) -> None:
    """Note where an error happened, unless its message says so, or a party that shares the call has noted it."""
    if not isinstance(error, NonFiniteLoss | BadValue) and not hasattr(error, "__notes__"):
        error.add_note(place)
