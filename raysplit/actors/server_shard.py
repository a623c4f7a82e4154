"""One of several servers that share the owners and together act as one.

The giant mini-batch of MiniBatch-SFL is distributed: every server computes the gradient of its owners' rows, the
servers exchange gradients and all take the same step, so that their weights are equal at all times. With replicas per
owner (SplitFed V1), a server holds those of its owners, and an aggregator averages over all owners.

Without batch norm in the servers' part, the result equals that of a single server up to rounding. With batch norm, each
server has the batch statistics of its own rows, and the running statistics of the model are those of the first server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from raysplit.actors.barrier import fail
from raysplit.actors.compute_node import ComputeNode
from raysplit.actors.expecting.parties import SHARED
from raysplit.actors.parts.stage import Stage
from raysplit.actors.records import RoundContext, StaleCall, StepId
from raysplit.actors.verbs import AggregatorHandle, NodeHandle
from raysplit.cluster.arriving.forms import refused
from raysplit.cluster.contract import Given, Promise, current_caller, gather, value_of

Offer = tuple[Tensor, float]
"""A server's gradient [dim] of its mean loss in a step, and the number of counted elements by weight."""


class ShardHandle(NodeHandle, Protocol):
    """The handle of a `ServerShard`."""

    def begin_share(self, context: RoundContext, sharing: Sharing) -> Promise[None]: ...

    def follow(self, state: Given[Mapping[str, Any]]) -> Promise[None]: ...

    def take_offer(self, step_id: StepId, index: int, offer: Given[Offer]) -> Promise[None]: ...


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """A server's share of a round.

    Attributes:
        owners: names of the owners of this server.
        servers: handles of all servers of the round.
        index: this server's place among them.
        aggregator: the handle of the aggregator of replicas.
    """

    owners: tuple[str, ...]
    servers: tuple[ShardHandle, ...]
    index: int
    aggregator: AggregatorHandle


class ServerShard(ComputeNode):
    """A compute node that serves a share of the owners; its arguments are those of `ComputeNode`."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._sharing: Sharing | None = None
        self._offers: dict[tuple[int, int], asyncio.Future[Offer]] = {}  # by step and server
        self._sent: dict[int, asyncio.Future[None]] = {}  # the latest to each server

    def begin_share(self, context: RoundContext, sharing: Sharing) -> None:
        """Begin a round with this share of its cohort."""
        self._sharing = sharing
        self.begin(context)

    def _abandon(self, reason: str) -> None:
        super()._abandon(reason)
        fail(self._offers.values(), StaleCall(reason))
        self._offers.clear()
        for sent in self._sent.values():
            sent.cancel()
        self._sent.clear()

    async def follow(self, state: Mapping[str, Any]) -> None:
        """Load the shared part from the `state_dict` of another server; local batch-norm statistics are kept."""
        part = self._stage(SHARED).part
        part.load_state_dict(state["replicas"][SHARED], buffers=self._recipe.buffers)

    async def take_offer(self, step_id: StepId, index: int, offer: Offer) -> None:
        """Receive another server's gradient of this step.

        Gradients are pushed, not fetched: a server that has all gradients starts its next step at once, and a request
        for its own gradient would wait until that step ends.
        """
        self._check(step_id)
        caller = current_caller.get()
        servers = self._sharing.servers if self._sharing is not None else ()
        if not 0 <= index < len(servers) or servers[index].name != caller:
            raise refused(caller, self.name, f"a gradient in the name of server {index}", step_id)
        awaited = self._offer(step_id.step, index)
        if not awaited.done():
            awaited.set_result(offer)

    def _served(self, owners: tuple[str, ...]) -> tuple[str, ...]:
        assert self._sharing is not None
        mine = set(self._sharing.owners)
        return tuple(owner for owner in owners if owner in mine)

    async def _combine(self, step_id: StepId, stage: Stage, mass: float) -> None:
        """Replace the gradient over this server's elements by that over all, summed in server order."""
        assert self._sharing is not None
        parameters = [p for p in stage.part.module.parameters() if p.grad is not None]
        if not parameters:  # owners keep all weights, and the servers only compute the loss
            return
        own = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        offers = await self._exchange(step_id, (own, mass), self._sharing)
        for server, (gradient, counted) in zip(self._sharing.servers, offers, strict=True):
            if gradient.shape != own.shape or gradient.dtype != own.dtype or counted < 0:
                what = f"a gradient of {gradient.dtype} {list(gradient.shape)} over {counted:g}, and it expects "
                raise refused(server.name, self.name, f"{what}{own.dtype} {list(own.shape)}", step_id)
        total = sum(counted for _, counted in offers) or 1  # without any counted element, all gradients are 0
        joint = torch.zeros_like(own)
        for gradient, counted in offers:
            joint.add_(gradient, alpha=counted / total)
        for parameter, values in zip(parameters, torch.split(joint, [p.numel() for p in parameters]), strict=True):
            parameter.grad = values.view_as(parameter)

    async def _exchange(self, step_id: StepId, own: Offer, sharing: Sharing) -> list[Offer]:
        """Send this server's gradient to all others, and return all gradients in server order."""
        others = [(index, server) for index, server in enumerate(sharing.servers) if index != sharing.index]
        for index, server in others:
            if index in self._sent:
                await asyncio.wait([self._sent[index]])  # at most one gradient is under way to each server
                self._check(step_id)
            sent = self._sent[index] = asyncio.ensure_future(value_of(server.take_offer(step_id, sharing.index, own)))
            sent.add_done_callback(partial(_fail_offer, self._offer(step_id.step, index)))
        offers = {sharing.index: own}
        for index, _ in others:
            offers[index] = await self._offer(step_id.step, index)
            self._check(step_id)
            del self._offers[step_id.step, index]
        return [offers[index] for index in sorted(offers)]

    async def _mean_of_replicas(self, context: RoundContext, owners: tuple[str, ...]) -> dict[str, Tensor]:
        assert self._sharing is not None
        aggregator = self._sharing.aggregator
        await gather(*[aggregator.submit(context, name, self._stage(name).part.weights()) for name in owners])
        mean = await aggregator.mean(context)
        return {key: value.clone() for key, value in mean.items()}

    def _offer(self, step: int, index: int) -> asyncio.Future[Offer]:
        key = step, index
        if key not in self._offers:
            self._offers[key] = asyncio.get_running_loop().create_future()
        return self._offers[key]


def _fail_offer(offer: asyncio.Future[Offer], sent: asyncio.Future[None]) -> None:
    """Fail the wait for a server's gradient if that server could not be reached."""
    error = None if sent.cancelled() else sent.exception()
    if error is not None:
        fail([offer], error)
