"""Federated averaging: FedAvg and FedProx, with the whole model at the owner.

* FedAvg: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data" (2017,
  arXiv 1602.05629), algorithm 1: local epochs from the global model, then a mean weighted by data size.
* FedProx: Li et al., "Federated Optimization in Heterogeneous Networks" (2020, arXiv 1812.06127): FedAvg whose local
  loss has the term mu/2 |w - w_global|^2.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from raysplit.actors.aggregator import Aggregator
from raysplit.actors.data_owner import DataOwner, Program
from raysplit.actors.records import RoundContext
from raysplit.actors.verbs import Weights
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.fedavg.open_aggregator import OpenAggregator
from raysplit.algorithms.fedavg.open_round import OpenRounds
from raysplit.algorithms.setting import AGGREGATOR, Options, RoundReport, Setting, Team
from raysplit.algorithms.unused import NO_NODE
from raysplit.cluster.contract import PartySpec, Promise


async def local_epochs(owner: DataOwner, team: Team, context: RoundContext) -> None:
    """Train the whole model on all batches of the round."""
    for step_id, batch in owner.batches(context):
        await owner.train_batch(step_id, batch)


async def train_and_submit(owner: DataOwner, team: Team, context: RoundContext) -> None:
    """Train the whole model on all batches of the round, and submit its weights for the average."""
    await local_epochs(owner, team, context)
    await team.aggregator.submit(context, owner.name, owner.weights())


class FedAvg(Algorithm):
    """FedAvg: local epochs at the owners, then the mean of their models."""

    name = "fedavg"
    title = "FedAvg"
    comes_and_goes = True
    works_apart = True
    vectorizes = True
    clips_models = True
    unused = NO_NODE

    def set_up(self, setting: Setting) -> None:
        super().set_up(setting)
        self._open = OpenRounds(setting.cohort)
        self._adds_up = False

    def parties(self) -> list[PartySpec]:
        return [*self.owner_parties(self.recipe(0)), self.averaging_party()]

    def averaging_party(self) -> PartySpec:
        """Describe the aggregator; an `OpenAggregator` if the rules let a round end without some owners."""
        party, rules, size = self.aggregator_party(0), self.setting.cohort, self.setting.cohort_size
        if not rules.is_open:
            has_adapters = any(name.endswith(".lora_b") for name in party.arguments["state"])  # their gap is measured
            is_plain = self.aggregator_type is Aggregator and not has_adapters
            self._adds_up = is_plain and self.setting.updates.adds_up
            return party
        return replace(
            party, build=OpenAggregator, arguments={**party.arguments, "cohort_rules": rules, "cohort_size": size}
        )

    def kind_of(self, owner: str) -> Hashable:
        return None  # all owners do the same

    def available(self, round: int) -> list[str]:
        return self._open.idle(super().available(round))

    def program(self, context: RoundContext) -> Program:
        """Return what every owner runs in a round."""
        return train_and_submit

    async def round(self, context: RoundContext) -> RoundReport:
        aggregator, context = self.aggregator(), replace(context, adds_up=self._adds_up)
        await aggregator.begin(context)
        team, program = Team(peers=self.peers(AGGREGATOR)), self.program(context)
        if not self.setting.cohort.is_open:
            return RoundReport(owners=await self.run_owners(program, team, context, aggregator.current()))
        runs = {
            name: self.owner(name).run_round(program, team, context, aggregator.current()) for name in context.cohort
        }
        return RoundReport(owners=await self._open.run(runs, context, self.handles[AGGREGATOR], self.handles))

    def durable(self, parties: list[PartySpec]) -> list[str]:
        return self.without_idle_owners(parties)

    def without_parts(self, parties: list[PartySpec]) -> frozenset[str]:
        return self.idle_owners(parties)

    def models(self) -> dict[str, list[Promise[Weights]]]:
        return {"global": [self.aggregator().current()]}


class FedProxOptions(Options):
    """Options of FedProx."""

    proximal_mu: float = Field(default=0.1, ge=0)
    """Weight mu of the proximal term; 0 is FedAvg."""


class FedProx(FedAvg):
    """FedProx: FedAvg with a proximal term in the local loss."""

    name = "fedprox"
    title = "FedProx"
    options_type: ClassVar[type[Options]] = FedProxOptions

    def parties(self) -> list[PartySpec]:
        recipe = self.recipe(0, proximal_mu=self.options.proximal_mu)
        return [*self.owner_parties(recipe), self.averaging_party()]
