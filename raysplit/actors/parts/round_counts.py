"""What an owner counts in a round: samples, steps, and the elements over which its mean losses are means."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from raysplit.actors.records import OwnerReport, RoundContext, StepId

logger = logging.getLogger(__name__)


class RoundCounts:
    """Sums of an owner's round.

    Args:
        count: returns the number of counted elements of a batch of targets; None counts samples.
    """

    def __init__(self, count: Callable[[Any], int] | None) -> None:
        self._count = count
        self._expected: dict[StepId, int] = {}
        self._loss_sum = 0.0
        self._num_counted = self._num_samples = self._num_empty = 0
        self.num_steps = 0

    def expect(self, step_id: StepId, y: Any) -> None:
        """Count the targets of a batch whose loss is to come."""
        if self._count is not None:
            self._expected[step_id] = self._count(y)

    def add(self, step_id: StepId, loss: float, num_samples: int) -> None:
        """Add the mean loss of a step."""
        counted = self._expected.pop(step_id, num_samples)
        self._loss_sum += loss * counted
        self._num_counted += counted
        self._num_samples += num_samples
        self._num_empty += not counted
        self.num_steps += 1

    def report(self, owner: str) -> OwnerReport:
        """Return the owner's report."""
        mean = self._loss_sum / max(1, self._num_counted)
        return OwnerReport(owner=owner, loss=mean, num_samples=self._num_samples, num_steps=self.num_steps)

    def tell_empty(self, owner: str, context: RoundContext) -> None:
        """Warn of batches without a counted element, once a round."""
        if self._num_empty:
            logger.warning(
                "%s, round %d: %d of %d batches have no target that counts; their loss and gradients are 0",
                owner,
                context.round + 1,
                self._num_empty,
                self.num_steps,
            )
