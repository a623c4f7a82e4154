"""MTSL: one shared top at the server and a bottom for every owner, without averaging.

Zheng, Eryilmaz, "Non-Federated Multi-Task Split Learning for Heterogeneous Sources" (2024, arXiv 2406.00150). Per step
owner m sends s_m = H_m(psi_m, x_m) and its labels; the server takes one step at its own learning rate on the mean (or
sum) of the owners' mean losses L_m and returns dL_m/ds_m, all at the old weights; owner m steps at its own learning
rate. Activations and labels go up and gradients come down; weights are not sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from raysplit.algorithms.mtsl.curvature import CurvatureHandle, CurvatureNode
from raysplit.algorithms.mtsl.learning_rates import AutoRates, FixedRates, MeasuredRates, Reduction
from raysplit.algorithms.mtsl.membership import (
    Membership,
    members,
    refuse_unguarded,
    take_mean_bottom,
    taking_mean_bottom,
)
from raysplit.algorithms.mtsl.own_bottoms import Bottom, bottoms_of
from raysplit.algorithms.setting import SERVER, Cut, Options, RoundReport, Setting, SplitOptions, Team
from raysplit.algorithms.unused import BUFFERS, JOINT_STEPS, NO_AVERAGE, NO_COMMON_MODEL, RunOutline
from raysplit.cluster.contract import PartySpec, Promise, gather
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
    """Draw the owners that take part in a step, each absent with a probability; draw again if none is left."""
    if absence == 0:
        return cohort
    draw = generator(seed, "round", step_id.round, "step", step_id.step, "absence")
    while True:
        present = tuple(name for name, u in zip(cohort, draw.random(len(cohort)), strict=True) if u >= absence)
        if present:
            return present


REDUCTIONS: dict[Reduction, Literal["client_mean", "client_sum"]] = {"mean": "client_mean", "sum": "client_sum"}


class MTSLOptions(SplitOptions):
    """Options of MTSL."""

    reduction: Reduction = "mean"
    """Loss of the shared top: the ``mean`` of the present owners' losses, or their ``sum``."""
    server_forward: ServerForward | None = None
    """Forward pass of the shared top: ``concat`` is one pass over the rows of all owners; ``grad_avg`` is one pass per
    owner, with batch statistics of its own. It must be given for a top with batch norm; without it both are equal."""
    learning_rates: Literal["auto"] | AutoRates | FixedRates | None = None
    """Learning rates of the top and the bottoms: ``auto``, or ``{every: ..., iterations: ...}``, derives them from
    measured curvature; ``{server: ..., owners: ...}`` fixes them; None uses the optimizers' rates."""
    absence: float = Field(default=0.0, ge=0, lt=1)
    """Probability that an owner is absent from a step."""
    bottoms: dict[str, Bottom] | tuple[Bottom, ...] = ()
    """Bottoms of other architectures, each ``{model: ..., cut: ...}``: by owner, or a list that is assigned to the
    owners in turn."""
    members: dict[str, Membership] = {}
    """Rounds in which owners take part and their initial bottoms, each ``{joins: ..., leaves: ..., bottom: ...}``, by
    owner; the others take part always."""
    freeze_server_from: int | None = Field(default=None, ge=0)
    """Round, counted from 0, from which on the shared top is not trained; None trains it always."""

    @field_validator("learning_rates")
    @classmethod
    def _auto(cls, value: Literal["auto"] | AutoRates | FixedRates | None) -> AutoRates | FixedRates | None:
        return AutoRates() if value == "auto" else value


class MTSL(Algorithm):
    """MTSL: owners train bottoms of their own below one shared top, all in lockstep."""

    name = "mtsl"
    can_be_simulated = False
    title = "MTSL"
    round_is_report = True
    unused = {**NO_AVERAGE, **NO_COMMON_MODEL, **JOINT_STEPS}
    options_type: ClassVar[type[Options]] = MTSLOptions
    lockstep = True

    @classmethod
    def check(cls, options: Any, outline: RunOutline) -> None:
        super().check(options, outline)
        outline.require_owners("members", options.members)
        for round in sorted({0, *(m.leaves for m in options.members.values() if m.leaves is not None)}):
            if round < outline.rounds:
                members(outline.owners, options.members, round)
        if BUFFERS in outline.given and all(member.bottom != "mean" for member in options.members.values()):
            raise ValueError(
                f"{BUFFERS} is {outline.given[BUFFERS]!r}, and in mtsl owners keep their own statistics, unless they "
                f"join with the mean bottom of others (algorithm.members); leave it out"
            )
        refuse_unguarded(options, outline)
        if isinstance(options.learning_rates, FixedRates):
            options.learning_rates.of_owners(outline.owners, 0.0)
        if isinstance(options.bottoms, Mapping):
            outline.require_owners("bottoms", options.bottoms)

    def set_up(self, setting: Setting) -> None:
        options: MTSLOptions = self.options
        super().set_up(setting)
        owners = list(setting.owners)
        self._specs = bottoms_of(owners, setting.spec, self.placed_cuts[0], options.bottoms)
        if any(m.bottom == "mean" for m in options.members.values()) and len(set(self._specs.values())) > 1:
            raise ValueError(
                "an owner in members joins with bottom: mean, but the bottoms have different architectures and no "
                "mean; set bottom to random"
            )
        self._round = 0
        server_forward = options.server_forward or "concat"
        if options.server_forward is None:
            refuse_mixed_statistics(setting.spec.parts(self.placed_cuts)[1])
        self._rule = JointRule(server_forward=server_forward, reduction=REDUCTIONS[options.reduction])
        rates = options.learning_rates
        self._measured = (
            MeasuredRates(rates, reduction=options.reduction, seed=setting.seed)
            if isinstance(rates, AutoRates)
            else None
        )
        if self._measured is not None:
            for spec in dict.fromkeys(self._specs.values()):
                refuse_no_curvature(spec.parts(self.placed_cuts), self.placed_cuts[0])

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

    def seen_alone(self, owner: str) -> tuple[ModelSpec, tuple[Cut, ...]]:
        meet = min(self.setting.cohort_size or 2, len(self.setting.owners)) > 1 and not self.options.members
        joined = self._rule.server_forward == "concat" and meet and not self.options.absence
        return self._specs[owner], self.placed_cuts if joined else ()

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
        """Give owners that join with ``bottom: mean`` the mean bottom of the round before."""
        for name in taking_mean_bottom(self.options.members, context.round):
            peers = self.peers(*self.available(context.round - 1))
            await self.owner(name).run_round(take_mean_bottom, Team(peers=peers), context)

    async def _set_rates(self, context: RoundContext) -> dict[str, float]:
        """Set learning rates from measured curvature, if configured; a frozen top gets 0."""
        rates = await self._measured.refresh(self.handles, context) if self._measured else {}
        frozen_from = self.options.freeze_server_from
        if frozen_from is not None and context.round >= frozen_from:
            server: CurvatureHandle = self.handles[SERVER]
            await gather(server.set_learning_rate(0.0), server.freeze())
        return rates

    # -- results -------------------------------------------------------------------------------------------------

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
    """Raise ``ValueError`` for batch norm: over a joint batch it mixes the tasks' statistics, so it must be chosen."""
    norms = [name for name, module in top.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if norms:
        raise ValueError(
            f"the shared top has batch norm ({norms[0]}), whose statistics would mix the owners' tasks; set "
            f"algorithm.server_forward to grad_avg (statistics of each owner's batch) or to concat (of all rows), or "
            f"use a model without batch norm"
        )


def refuse_no_curvature(parts: Sequence[nn.Module], cut: Cut) -> None:
    """Raise ``ValueError`` for learning rates from the curvature of a bottom or a top that has no weights to train."""
    for name, part in zip(("bottom", "top"), parts, strict=True):
        if not any(weight.requires_grad for weight in part.parameters()):
            raise ValueError(
                f"algorithm.learning_rates are measured at the bottom and at the top, and with the cut {cut!r} the "
                f"{name} has no weights to train; set algorithm.cut so that it has some, or give the rates as numbers"
            )
