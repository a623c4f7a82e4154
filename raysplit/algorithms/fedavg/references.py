"""The two references of every comparison: centralized training (upper), and local training without communication."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field

from raysplit.actors.records import RoundContext
from raysplit.actors.verbs import Weights
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.fedavg.fedavg import local_epochs
from raysplit.algorithms.fedavg.pooled_owner import PooledOwner
from raysplit.algorithms.setting import Options, OwnerData, RoundReport, Setting, Team
from raysplit.algorithms.unused import NO_AVERAGE, NO_COMMON_MODEL, NO_GUARDS, NO_NODE, OWN_STATISTICS
from raysplit.cluster.contract import PartySpec, Promise


class LocalOnly(Algorithm):
    """Local training: each owner trains a model of its own, without communication."""

    name = "local"
    title = "Local only"
    round_is_report = True
    vectorizes = True
    clips_models = True
    unused = {**NO_NODE, **NO_AVERAGE, **OWN_STATISTICS, **NO_COMMON_MODEL, **NO_GUARDS}

    def parties(self) -> list[PartySpec]:
        return self.owner_parties(self.recipe(0))

    def kind_of(self, owner: str) -> Hashable:
        return None  # all owners do the same

    async def round(self, context: RoundContext) -> RoundReport:
        return RoundReport(owners=await self.run_owners(local_epochs, Team(), context))

    def models(self) -> dict[str, list[Promise[Weights]]]:
        return {name: [self.owner(name).weights()] for name in self.setting.owners}


class CentralisedOptions(Options):
    """Options of centralized training."""

    batch_factor: int = Field(default=1, ge=1)
    """Factor on the batch size; the number of owners gives the batch of MiniBatch-SFL."""


class Centralised(LocalOnly):
    """Centralized training: one owner holds the samples of all."""

    name = "centralised"
    title = "Centralized"
    vectorizes = False
    unused = {
        **NO_NODE,
        **NO_AVERAGE,
        **OWN_STATISTICS,
        **NO_GUARDS,
        "training.cohort_size": "one owner holds the samples of all",
    }
    options_type: ClassVar[type[Options]] = CentralisedOptions

    def set_up(self, setting: Setting) -> None:
        options: CentralisedOptions = self.options
        training = replace(setting.training, batch_size=setting.training.batch_size * options.batch_factor)
        first = next(iter(setting.owners))
        self._origins = tuple(setting.owners.values())
        pooled = {first: pool(setting.owners)}
        super().set_up(replace(setting, owners=pooled, training=training))

    def parties(self) -> list[PartySpec]:
        """Describe the one owner. Where the owners' inputs differ, it transforms each sample as its own owner would."""
        transforms = [data.transform for data in self._origins]
        if all(transform is transforms[0] for transform in transforms):
            return super().parties()
        sizes = [len(data.shard) for data in self._origins]
        origins = {
            "transforms": tuple(transforms),
            "origin": torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)),
        }
        return [replace(p, build=PooledOwner, arguments={**p.arguments, **origins}) for p in super().parties()]

    def models(self) -> dict[str, list[Promise[Weights]]]:
        (owner,) = self.setting.owners
        return {"global": [self.owner(owner).weights()]}


def pool(owners: Mapping[str, OwnerData]) -> OwnerData:
    """Pool all owners' training samples in one owner, in owner order."""
    data = list(owners.values())
    shards = [owner.shard for owner in data]
    shard = shards[0] if len(shards) == 1 else type(shards[0]).concatenated(shards)
    return replace(data[0], shard=shard, test=None)
