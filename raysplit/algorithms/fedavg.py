"""Federated averaging and its plainest relatives: the whole model at the owner.

* FedAvg: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data" (2017,
  arXiv 1602.05629), algorithm 1: local epochs from the global model, then a mean weighted by data size.
* FedProx: Li et al., "Federated Optimization in Heterogeneous Networks" (2020, arXiv 1812.06127): FedAvg whose local
  loss has the term mu/2 |w - w_global|^2.
* Centralised: all data in one place, the upper reference. Local only: no communication at all, the lower one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from raysplit.actors.data_owner import DataOwner
from raysplit.actors.open_aggregator import OpenAggregator
from raysplit.actors.records import RoundTask
from raysplit.algorithms.base import AGGREGATOR, Algorithm, Options, OwnerData, RoundReport, Setting, Team
from raysplit.algorithms.open_round import OpenRounds
from raysplit.cluster.contract import PartySpec, Promise
from raysplit.data.samples import Samples


async def local_epochs(owner: DataOwner, team: Team, task: RoundTask) -> None:
    for tag, batch in owner.batches(task):
        await owner.train_batch(tag, batch)


async def train_and_submit(owner: DataOwner, team: Team, task: RoundTask) -> None:
    await local_epochs(owner, team, task)
    await team.aggregator.submit(task, owner.name, owner.parts_state())


class FedAvg(Algorithm):
    name = "fedavg"
    title = "FedAvg"
    comes_and_goes = True
    works_apart = True

    def __init__(self, setting: Setting, options: Options) -> None:
        super().__init__(setting, options)
        self._open = OpenRounds(setting.cohort)

    def parties(self) -> list[PartySpec]:
        return [*self.owner_parties(self.recipe(0)), self.averaging_party()]

    def averaging_party(self) -> PartySpec:
        """The aggregator, one that closes a round in time where that is wanted."""
        party, rules = self.aggregator_party(0), self.setting.cohort
        if not rules.is_open:
            return party
        return replace(party, build=OpenAggregator, arguments={**party.arguments, "cohort_rules": rules})

    def available(self, round: int) -> list[str]:
        return self._open.idle(super().available(round))

    async def round(self, task: RoundTask) -> RoundReport:
        aggregator = self.handles[AGGREGATOR]
        await aggregator.begin(task)
        team = Team(peers={AGGREGATOR: aggregator})
        if not self.setting.cohort.is_open:
            return RoundReport(owners=await self.run_owners(train_and_submit, team, task, aggregator.current()))
        runs = {
            name: self.handles[name].run_round(train_and_submit, team, task, aggregator.current())
            for name in task.cohort
        }
        return RoundReport(owners=await self._open.run(runs, task, aggregator, self.handles))

    def durable(self, parties: list[PartySpec]) -> list[str]:
        return self.without_idle_owners(parties)

    def models(self) -> dict[str, list[Promise]]:
        return {"global": [self.handles[AGGREGATOR].current()]}


class FedProxOptions(Options):
    """``proximal_mu`` is the weight of the proximal term; 0 is FedAvg."""

    proximal_mu: float = Field(default=0.1, ge=0)


class FedProx(FedAvg):
    name = "fedprox"
    title = "FedProx"
    options_type: ClassVar[type[Options]] = FedProxOptions

    def parties(self) -> list[PartySpec]:
        recipe = self.recipe(0, proximal_mu=self.options.proximal_mu)
        return [*self.owner_parties(recipe), self.averaging_party()]


class LocalOnly(Algorithm):
    name = "local"
    title = "Local only"

    def parties(self) -> list[PartySpec]:
        return self.owner_parties(self.recipe(0))

    async def round(self, task: RoundTask) -> RoundReport:
        return RoundReport(owners=await self.run_owners(local_epochs, Team(), task))

    def models(self) -> dict[str, list[Promise]]:
        return {name: [self.handles[name].state()] for name in self.setting.owners}


class CentralisedOptions(Options):
    """``batch_factor`` multiplies the batch size; the number of owners makes the batch of MiniBatch-SFL."""

    batch_factor: int = Field(default=1, ge=1)


class Centralised(LocalOnly):
    name = "centralised"
    title = "Centralised"
    options_type: ClassVar[type[Options]] = CentralisedOptions

    def __init__(self, setting: Setting, options: CentralisedOptions) -> None:
        training = replace(setting.training, batch_size=setting.training.batch_size * options.batch_factor)
        first = next(iter(setting.owners))
        pooled = {first: pool(setting.owners)}
        super().__init__(replace(setting, owners=pooled, training=training), options)

    def models(self) -> dict[str, list[Promise]]:
        (owner,) = self.setting.owners
        return {"global": [self.handles[owner].state()]}


def pool(owners: Mapping[str, OwnerData]) -> OwnerData:
    """All owners' samples as one owner's, in owner order."""
    data = list(owners.values())
    shard = data[0].shard if len(data) == 1 else _concatenate([d.shard for d in data])
    return replace(data[0], shard=shard, test=None)


def _concatenate(shards: list[Samples]) -> Samples:
    x = torch.cat([shard.x for shard in shards])
    labels = [shard.y for shard in shards if isinstance(shard.y, Tensor)]
    if labels:
        return Samples(x=x, y=torch.cat(labels))
    targets = [shard.y for shard in shards if not isinstance(shard.y, Tensor)]
    return Samples(x=x, y={task: torch.cat([y[task] for y in targets]) for task in targets[0]})
