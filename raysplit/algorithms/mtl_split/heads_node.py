"""A compute node that holds some of a multi-task classifier's heads.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982): the features are sent once, every head has a loss of its own
and the backbone gets the sum of the gradients. Here that sum is formed on the way back, from node to node in the order
of the tasks, so that the data owner receives one gradient however many tasks there are.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from raysplit.actors.compute_node import SHARED, ComputeNode
from raysplit.actors.parts.part import as_tuple
from raysplit.actors.records import StaleCall, Tag
from raysplit.models.classifier.heads import in_order


class HeadsNode(ComputeNode):
    """Holds a `Heads` part and no data."""

    _gradients: tuple[Tag, tuple[Tensor, ...]] | None = None

    async def train_heads(self, tag: Tag, z: Tensor, y: Any) -> float:
        """A step of all heads here on features [B, Z_b] and labels by task; the sum of their mean losses.

        The gradients of `z`, one per head and all at the weights before the step, wait for `add_gradients`.
        """
        with self._under_way(tag):
            copies = (z,) * len(y)
            loss, gradients = await self._stage(SHARED).loss_gradient(tag, copies, y, self._loss)
            self._gradients = tag, as_tuple(gradients)
            await self._stage(SHARED).update(tag)
        self._num_steps += 1
        return loss

    async def add_gradients(self, tag: Tag, before: Tensor | None) -> Tensor:
        """The sum [B, Z_b] over the heads before and those here, head by head, once `train_heads` is done."""
        self._check(tag)
        if self._gradients is None or self._gradients[0] != tag:
            raise StaleCall(f"{self.name} has no gradients of {tag}")
        own, self._gradients = self._gradients[1], None
        return in_order(own if before is None else (before, *own))
