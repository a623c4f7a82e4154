"""Micro-batches whose gradients make one step.

The loss of a step is one mean over the targets of all its micro-batches: each contributes the sum of its losses divided
by the number of targets of the whole step. A mean of the means of batches would be another number wherever batches have
different sizes. Where samples have several targets, the loss of each task is such a mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

from torch import Tensor

from raysplit.actors.parts.losses import Loss
from raysplit.actors.records import RoundContext, StepId
from raysplit.actors.steps.shares import counted_in, counted_of

Item = TypeVar("Item")


def step_ids(owner: str, context: RoundContext, accumulate: int) -> Iterator[StepId]:
    """Iterate over the mini-batches of an owner in a round, as steps and their micro-batches."""
    num_batches = context.steps(owner)
    for number in range(num_batches):
        step, micro = divmod(number, accumulate)
        yield StepId(
            owner=owner,
            round=context.round,
            step=step,
            attempt=context.attempt,
            micro=micro,
            num_micro=min(accumulate, num_batches - step * accumulate),
        )


def by_step(batches: Iterable[tuple[StepId, Any]], loss: Loss) -> Iterator[tuple[StepId, Any]]:
    """Tell each micro-batch how many targets its whole step has; only the batches of one step are held.

    Raises:
        ValueError: for several targets with a loss that does not say what each adds to it.
    """
    waiting = iter(batches)
    for first in waiting:
        if not isinstance(y := first[1].y, Tensor) and not isinstance(counted_of(loss, y), Mapping):
            raise ValueError(
                f"training.accumulate makes one mean of the losses of each target, and training.loss is one number for "
                f"the targets {', '.join(y)} together; leave it out, and use larger batches"
            )
        step = [first, *islice(waiting, first[0].num_micro - 1)]
        counted = counted_in(loss, [batch.y for _, batch in step]) if len(step) > 1 else 0
        yield from ((replace(step_id, counted=counted), batch) for step_id, batch in step)
