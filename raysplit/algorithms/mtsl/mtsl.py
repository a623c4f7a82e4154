"""MTSL: one shared top, a bottom of every owner's own, nothing averaged.

Zheng, Eryilmaz, "Non-Federated Multi-Task Split Learning for Heterogeneous Sources" (2024, arXiv 2406.00150). Per step
owner m sends s_m = H_m(psi_m, x_m) and its labels; the server takes one step of its own rate on the mean (or sum) of
the owners' mean losses L_m and returns dL_m/ds_m, all at the old weights; owner m steps with its own rate. Activations
with labels go up and gradients come down, no weights ever travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator
from torch import nn

from raysplit.actors.data_owner import DataOwner
from raysplit.actors.parts.joint_step import JointRule, ServerForward
from raysplit.actors.records import RoundContext, StepId
from raysplit.actors.verbs import Weights
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.mtsl.curvature import CurvatureNode
from raysplit.algorithms.mtsl.learning_rates import AutoRates, FixedRates, MeasuredRates, Reduction
from raysplit.algorithms.mtsl.membership import Membership, members, take_mean_bottom, taking_mean_bottom
from raysplit.algorithms.mtsl.own_bottoms import Bottom, bottoms_of
from raysplit.algorithms.setting import SERVER, Cut, Options, RoundReport, Setting, SplitOptions, Team
from raysplit.cluster.contract import PartySpec, Promise
from raysplit.models.spec import ModelSpec
from raysplit.seeding import generator


async def mtsl_round(owner: DataOwner, team: Team, context: RoundContext, *, absence: float, seed: int) -> None:
    for step_id, batch in owner.batches(context):
        present = present_owners(context.cohort, step_id, absence, seed)
        if owner.name in present:
            z = await owner.first.forward(step_id, batch.x)
            loss, g = await team.server.joint_step(step_id, present, z, batch.y)
            await owner.first_backward(step_id, g)
            owner.note(step_id, loss, len(batch))


def present_owners(cohort: tuple[str, ...], step_id: StepId, absence: float, seed: int) -> tuple[str, ...]:
    """Who takes part in a step when each is absent with a probability; drawn again where nobody would be left."""
    if absence == 0:
        return cohort
    draw = generator(seed, "round", step_id.round, "step", step_id.step, "absence")
    while True:
        present = tuple(name for name, u in zip(cohort, draw.random(len(cohort)), strict=True) if u >= absence)
        if present:
            return present


REDUCTIONS: dict[Reduction, Literal["client_mean", "client_sum"]] = {"mean": "client_mean", "sum": "client_sum"}


class MTSLOptions(SplitOptions):
    """How tasks meet at the top, who they are, and how fast each side learns."""

    reduction: Reduction = "mean"
    """The top's gradient is that of the ``mean`` of the present owners' losses, or of their ``sum``."""
    server_forward: ServerForward | None = None
    """``concat`` makes one pass over all rows; ``grad_avg`` one per owner, with statistics of its own. A top with batch
    norm wants the choice to be made; otherwise they are the same."""
    learning_rates: Literal["auto"] | AutoRates | FixedRates | None = None
    """``auto`` measures curvature and derives every rate from it; ``{server: ..., owners: ...}`` gives them; without it
    the optimisers' rates hold."""
    absence: float = Field(default=0.0, ge=0, lt=1)
    """The probability that an owner sits a step out."""
    bottoms: dict[str, Bottom] | tuple[Bottom, ...] = ()
    """Models of the owners' own, by owner or as a list that is dealt out in turn."""
    members: dict[str, Membership] = {}
    """When owners join and leave, and with which bottom they begin, by owner; the others are always there."""
    freeze_server_from: int | None = Field(default=None, ge=0)
    """From this round on (counted from 0) the top stays as it is."""

    @field_validator("learning_rates")
    @classmethod
    def _auto(cls, value: Literal["auto"] | AutoRates | FixedRates | None) -> AutoRates | FixedRates | None:
        return AutoRates() if value == "auto" else value


class MTSL(Algorithm):
    name = "mtsl"
    can_be_simulated = False
    title = "MTSL"
    options_type: ClassVar[type[Options]] = MTSLOptions
    lockstep = True

    def set_up(self, setting: Setting) -> None:
        options: MTSLOptions = self.options
        super().set_up(setting)
        owners = list(setting.owners)
        if strangers := options.members.keys() - set(owners):
            raise ValueError(f"members names {sorted(strangers)[0]!r}; the owners are {owners[0]} to {owners[-1]}")
        self._specs = bottoms_of(owners, setting.spec, options.cut, options.bottoms)
        if any(m.bottom == "mean" for m in options.members.values()) and len(set(self._specs.values())) > 1:
            raise ValueError("a newcomer's bottom is to be the mean of others that differ; let it begin from random")
        self._round = 0
        server_forward = options.server_forward or "concat"
        if options.server_forward is None:
            refuse_mixed_statistics(setting.spec.parts(self.cuts)[1])
        self._rule = JointRule(server_forward=server_forward, reduction=REDUCTIONS[options.reduction])
        rates = options.learning_rates
        self._measured = (
            MeasuredRates(rates, reduction=options.reduction, seed=setting.seed)
            if isinstance(rates, AutoRates)
            else None
        )

    @property
    def cuts(self) -> tuple[Cut, ...]:
        return (self.options.cut,)

    def parties(self) -> list[PartySpec]:
        setting, rates = self.setting, self.options.learning_rates
        fixed = rates if isinstance(rates, FixedRates) else FixedRates()
        owner_rates = fixed.of_owners(list(setting.owners), setting.optimizer.lr)
        owners = [
            self.owner_party(
                name,
                self.recipe(0, spec=self._specs[name], optimizer=replace(setting.optimizer, lr=owner_rates[name])),
            )
            for name in setting.owners
        ]
        server_optimizer = replace(setting.server_optimizer, lr=fixed.of_server(setting.server_optimizer.lr))
        server = self.node_party(
            SERVER,
            self.recipe(1, optimizer=server_optimizer),
            joint=self._rule,
            restart_optimizer=setting.restart_server_optimizer,
        )
        return [*owners, replace(server, build=CurvatureNode)]

    # -- a round -------------------------------------------------------------------------------------------------

    def available(self, round: int) -> list[str]:
        return members(list(self.setting.owners), self.options.members, round)

    async def round(self, context: RoundContext) -> RoundReport:
        self._round = context.round
        server = self.node()
        await server.begin(context)
        await self._welcome(context)
        rates = await self._set_rates(context)
        program = partial(mtsl_round, absence=self.options.absence, seed=self.setting.seed)
        reports = await self.run_owners(program, Team(peers=self.peers(SERVER)), context)
        return RoundReport(owners=reports, server_steps=await server.num_steps(), values=rates)

    async def _welcome(self, context: RoundContext) -> None:
        """Newcomers begin from the mean of the bottoms that were there before, if they may."""
        for name in taking_mean_bottom(self.options.members, context.round):
            peers = self.peers(*self.available(context.round - 1))
            await self.owner(name).run_round(take_mean_bottom, Team(peers=peers), context)

    async def _set_rates(self, context: RoundContext) -> dict[str, float]:
        """Rates from measured curvature, if that is wanted; a frozen top has rate 0."""
        rates = await self._measured.refresh(self.handles, context) if self._measured else {}
        frozen_from = self.options.freeze_server_from
        if frozen_from is not None and context.round >= frozen_from:
            await self.node().set_learning_rate(0.0)
        return rates

    # -- what came of it -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {"round": self._round, "rates": self._measured.state_dict() if self._measured else {}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._round = state["round"]
        if self._measured:
            self._measured.load_state_dict(state["rates"])

    def models(self) -> dict[str, list[Promise[Weights]]]:
        top = self.node().weights()
        return {name: [self.owner(name).weights(), top] for name in self.available(self._round)}

    def spec_of(self, label: str) -> ModelSpec:
        return self._specs[label]


def refuse_mixed_statistics(top: nn.Module) -> None:
    """Batch norm over a joined batch would mix the tasks' statistics, so it must be asked for by name."""
    norms = [name for name, module in top.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if norms:
        raise ValueError(
            f"the shared top has batch norm ({norms[0]}), whose statistics would mix the owners' tasks; set "
            f"algorithm.server_forward to grad_avg (statistics of each owner's batch) or to concat (of all rows), or "
            f"take a model without it"
        )
