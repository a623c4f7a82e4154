"""SCAFFOLD: an algorithm with state at the owners and at the server, in one file.

Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning"
(2020, arXiv 1910.06378), algorithm 1, option II. Owner i keeps a control variate c_i, the server c:

    owner:   y <- x;  K times  y <- y - eta_l (g_i(y) - c_i + c);  c_i+ <- c_i - c + (x - y) / (K eta_l)
    server:  x <- x + eta_g mean_S(y_i - x);  c <- c + |S|/N mean_S(c_i+ - c_i)

There all owners weigh alike. Here they weigh by their samples as in FedAvg, so that c stays the weighted mean of all
c_i; with equal data sets this is the paper. As all control variates begin at zero, the first round is FedAvg's.

    raysplit train scaffold_digits.yaml        # in the folder of this file
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import torch
from pydantic import Field
from torch import Tensor

from raysplit.actors.aggregator import Aggregator
from raysplit.actors.data_owner import Batch, DataOwner
from raysplit.actors.records import RoundContext, StepId
from raysplit.actors.verbs import AggregatorHandle, Weights
from raysplit.algorithms.base import AGGREGATOR, Options, RoundReport, Setting, Team
from raysplit.algorithms.fedavg import FedAvg
from raysplit.cluster.contract import PartySpec, Promise


async def scaffold_round(owner: ScaffoldOwner, team: Team, context: RoundContext) -> None:
    server: ScaffoldServerHandle = team.peers[AGGREGATOR]
    x, c = owner.weights(), await server.control()
    c_i = owner.control or {name: torch.zeros_like(value) for name, value in c.items()}
    correction = {name: c[name] - c_i[name] for name in c}
    for step_id, batch in owner.batches(context):
        await owner.corrected_step(step_id, batch, correction)  # y <- y - eta_l (g_i(y) - c_i + c)
    y, travelled = owner.weights(), context.steps(owner.name) * owner.rate * context.lr_scale  # K eta_l
    after = {name: (x[name] - y[name]) / travelled - correction[name] for name in c} if travelled else c_i
    await server.submit_both(context, owner.name, y, {name: after[name] - c_i[name] for name in c})
    owner.control = after


class ScaffoldOwner(DataOwner):
    """A data owner with a control variate, which is part of what it goes on from."""

    may_rest = True

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.control: dict[str, Tensor] = {}  # c_i by parameter; none is zero
        self.rate = self._recipes[0].optimizer.lr  # eta_l

    async def corrected_step(self, step_id: StepId, batch: Batch, correction: Weights) -> None:
        """A step on a mini-batch, along its gradient plus the correction."""
        loss, _ = await self.first.loss_gradient(step_id, batch.x, batch.y, self._loss)
        for name, parameter in self.first.part.module.named_parameters():
            if parameter.grad is not None:
                parameter.grad.add_(correction[name].to(parameter.device))
        await self.first.update(step_id)
        self.note(step_id, loss, len(batch))

    async def set_learning_rate(self, rate: float) -> None:
        await super().set_learning_rate(rate)
        self.rate = rate

    async def state_dict(self) -> dict[str, Any]:
        return {**await super().state_dict(), "control": self.control}

    async def load_state_dict(self, state: Mapping[str, Any]) -> None:
        await super().load_state_dict(state)
        if "control" in state:
            self.control = {name: value.clone() for name, value in state["control"].items()}


class ScaffoldServerHandle(AggregatorHandle, Protocol):
    """A `ScaffoldServer` from afar."""

    def control(self) -> Promise[dict[str, Tensor]]: ...

    def submit_both(self, context: RoundContext, owner: str, y: Weights, change: Weights) -> Promise[None]: ...


class ScaffoldServer(Aggregator):
    """Holds x and c.

    Args:
        control: c before the first round.
        shares: of all owners' samples, by owner.
        global_rate: eta_g.
    """

    def __init__(self, *, control: Weights, shares: Mapping[str, float], global_rate: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._control = dict(control)
        self._shares = shares
        self._global_rate = global_rate
        self._changes: dict[str, Weights] = {}  # c_i+ - c_i by owner

    def begin(self, context: RoundContext) -> None:
        super().begin(context)
        self._changes.clear()

    async def control(self) -> dict[str, Tensor]:
        return self._control

    async def submit_both(self, context: RoundContext, owner: str, y: Weights, change: Weights) -> None:
        """Bring an owner's weights, and the change of its control variate; the last one ends the server's round."""
        await self.submit(context, owner, y)
        self._changes[owner] = change
        if len(self._changes) == len(context.cohort):
            self._control = {name: self._moved(context, name, value) for name, value in self._control.items()}

    def _moved(self, context: RoundContext, name: str, c: Tensor) -> Tensor:
        total = c.double()
        for owner in context.cohort:
            total = total + self._shares[owner] * self._changes[owner][name]
        return total.to(c.dtype)

    def combine(self, context: RoundContext, submitted: Mapping[str, Weights]) -> dict[str, Tensor]:
        mean = super().combine(context, submitted)
        if self._global_rate == 1:
            return mean
        x = self._current
        return mean | {name: x[name] + self._global_rate * (mean[name] - x[name]) for name in self._control}

    async def state_dict(self) -> dict[str, Any]:
        return {**await super().state_dict(), "control": self._control}

    async def load_state_dict(self, state: Mapping[str, Any]) -> None:
        await super().load_state_dict(state)
        self._control = {name: value.clone() for name, value in state["control"].items()}


class ScaffoldOptions(Options):
    """``global_rate`` is eta_g; at 1, as in the paper's experiments, the server takes the mean."""

    global_rate: float = Field(default=1.0, gt=0)


class Scaffold(FedAvg):
    name = "scaffold"
    title = "SCAFFOLD"
    options_type: ClassVar[type[Options]] = ScaffoldOptions
    owner_type = ScaffoldOwner
    aggregator_type = ScaffoldServer
    works_apart = False  # c is exact only if a round waits for its cohort
    can_be_simulated = False  # owners calculate with weights, of which a simulation has the sizes alone

    def set_up(self, setting: Setting) -> None:
        super().set_up(setting)
        optimizer = setting.optimizer
        if optimizer.name != "sgd" or optimizer.options:
            raise ValueError(
                f"SCAFFOLD reads the mean gradient off the way that plain SGD went, and the optimizer is "
                f"{optimizer.name} with {dict(optimizer.options)}; set training.optimizer to name: sgd and a rate"
            )

    def averaging_party(self) -> PartySpec:
        sizes = {name: self.setting.num_samples(name) for name in self.setting.owners}
        return self.aggregator_party(
            0,
            control={name: torch.zeros_like(p) for name, p in self.setting.spec.build().named_parameters()},
            shares={name: size / sum(sizes.values()) for name, size in sizes.items()},
            global_rate=self.options.global_rate,
        )

    async def round(self, context: RoundContext) -> RoundReport:
        server = self.aggregator()
        await server.begin(context)
        team = Team(peers=self.peers(AGGREGATOR))
        return RoundReport(owners=await self.run_owners(scaffold_round, team, context, server.current()))
