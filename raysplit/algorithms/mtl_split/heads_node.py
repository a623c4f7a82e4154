"""A compute node that holds some of the heads of a multi-task classifier.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982): the features are sent once, every head has a loss of its own
and the backbone receives the sum of the gradients. Here the nodes form that sum on the way back, in the order of the
tasks, so that the data owner receives one gradient for any number of tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from raysplit.actors.compute_node import ComputeNode
from raysplit.actors.expecting.parties import SHARED
from raysplit.actors.parts.leaves import Tensors, as_tuple
from raysplit.actors.records import StaleCall, StepId
from raysplit.actors.verbs import NodeHandle
from raysplit.cluster.arriving.forms import Expected
from raysplit.cluster.contract import Given, Promise
from raysplit.models.classifier.heads import in_order


class HeadsHandle(NodeHandle, Protocol):
    """The handle of a `HeadsNode`."""

    def train_heads(self, step_id: StepId, z: Given[Tensors], y: Any) -> Promise[float]: ...

    def add_gradients(self, step_id: StepId, before: Given[Tensor] | None) -> Promise[Tensor]: ...


class HeadsNode(ComputeNode):
    """A compute node whose part is a `Heads` module."""

    _gradients: tuple[StepId, tuple[Tensor, ...]] | None = None

    def expects(self, content: str, given: Mapping[str, Any]) -> Expected:
        """Return what is expected of a value: a sum of gradients is like the gradients of this node."""
        if content.startswith("gradients") and self._gradients is not None:
            return Expected(tensors=self._gradients[1][:1])
        return super().expects(content, given)

    async def train_heads(self, step_id: StepId, z: Tensors, y: Any) -> float:
        """Train all heads of this node for one step, and return the sum of their mean losses.

        Args:
            z: features [B, Z_b].
            y: labels [B] by task.

        The gradients of ``z``, one per head and all at the weights before the step, are kept for `add_gradients`.
        """
        with self._under_way(step_id):
            copies: Any = (z,) * len(y)
            loss, gradients = await self._stage(SHARED).loss_gradient(step_id, copies, y, self._loss)
            self._gradients = step_id, as_tuple(gradients)
            await self._stage(SHARED).update(step_id)
        self._num_steps += 1
        return loss

    async def add_gradients(self, step_id: StepId, before: Tensor | None) -> Tensor:
        """Add this node's gradients [B, Z_b] to the sum ``before``, head by head; call it after `train_heads`."""
        self._check_call(step_id)
        if self._gradients is None or self._gradients[0] != step_id:
            raise StaleCall(f"{self.name} has no gradients of {step_id}; call train_heads for this step first")
        own, self._gradients = self._gradients[1], None
        return in_order(own if before is None else (before, *own))
