"""The verbs with which the parts of one model exchange the norms of their gradients, to clip them together.

The party with the loss puts all norms together and sends back the factor. No part takes its step before that, so that
a step costs one more message each way: 4 bytes for each trained tensor, and 4 for the factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from raysplit.actors.barrier import Turns
from raysplit.actors.parts.stage import Stage
from raysplit.actors.records import StaleCall, StepId
from raysplit.cluster.contract import gather

if TYPE_CHECKING:
    from raysplit.actors.verbs import NodeHandle


class NormExchange:
    """The half of a compute node that clips with the parts of other parties."""

    name: str
    _turns: Turns

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[str, StepId] = {}  # steps whose gradients wait for their factor, by owner
        self._turn_waits = False  # whether the next owner's turn at a shared part waits for that too

    async def clip(self, step_id: StepId, norms: Mapping[int, Tensor]) -> Tensor:
        """Complete the step of the last part, and return the factor [] on all gradients of the step.

        Args:
            step_id: the owner's step.
            norms: the norms [T] of the gradients of all other parts, by number of the part.
        """
        self._take_waiting(step_id)
        stage = self._stage(step_id.owner)
        factor = stage.coefficient(step_id, {**norms, stage.index: await stage.norms(step_id)})
        await self._complete(step_id, stage, factor)
        return factor

    async def norms(self, step_id: StepId) -> Tensor:
        """Return the norms [T] of the gradients of the owner's replica, after its backward pass."""
        return await self._stage(self._waiting_for(step_id).owner).norms(step_id)

    async def update(self, step_id: StepId, factor: Tensor) -> None:
        """Apply the gradients of the owner's replica, multiplied by a factor []."""
        self._take_waiting(step_id)
        await self._complete(step_id, self._stage(step_id.owner), factor)

    def _awaits_factor(self, step_id: StepId, stage: Stage, *, in_turn: bool = False) -> bool:
        """Whether the step of these gradients waits for its factor; note that it does, with its turn."""
        waits = stage.exchanges_norms and step_id.is_last
        if waits:
            self._waiting[step_id.owner] = step_id
            self._turn_waits = in_turn
        return waits

    async def _complete(self, step_id: StepId, stage: Stage, factor: Tensor) -> None:
        await stage.update(step_id, factor)
        if self._turn_waits:
            self._turns.passed()

    def _waiting_for(self, step_id: StepId) -> StepId:
        if self._waiting.get(step_id.owner) != step_id:
            raise StaleCall(f"{self.name} has no gradients of {step_id} to clip; run its backward pass first")
        return step_id

    def _take_waiting(self, step_id: StepId) -> None:
        del self._waiting[self._waiting_for(step_id).owner]

    def _stage(self, owner: str) -> Stage:
        raise NotImplementedError


async def clip_along(first: Stage, last: Stage, nodes: Sequence[NodeHandle], step_id: StepId) -> Tensor:
    """Exchange the norms of a model whose ends are at the owner and whose middle is at these nodes, and update it.

    Returns the factor [] on all gradients.
    """
    middle = await gather(*[node.norms(step_id) for node in nodes])
    norms = {0: await first.norms(step_id), **dict(enumerate(middle, start=1)), last.index: await last.norms(step_id)}
    factor = last.coefficient(step_id, norms)
    updates = [node.update(step_id, factor) for node in nodes]
    await last.update(step_id, factor)
    await first.update(step_id, factor)
    await gather(*updates)
    return factor
