"""The two references that every comparison needs: all data in one place, and every owner by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from raysplit.actors.records import RoundContext
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.fedavg.fedavg import local_epochs
from raysplit.algorithms.setting import Options, OwnerData, RoundReport, Setting, Team
from raysplit.cluster.contract import PartySpec, Promise
from raysplit.data.inputs import concatenated
from raysplit.data.samples import Samples


class LocalOnly(Algorithm):
    name = "local"
    title = "Local only"

    def parties(self) -> list[PartySpec]:
        return self.owner_parties(self.recipe(0))

    async def round(self, context: RoundContext) -> RoundReport:
        return RoundReport(owners=await self.run_owners(local_epochs, Team(), context))

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
    return Samples(x=concatenated([shard.x for shard in shards]), y=concatenated([shard.y for shard in shards]))
