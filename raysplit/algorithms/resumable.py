"""What of an algorithm outlives a round: the parties whose state does, and what the coordinator remembers.

Random streams are keyed by round, so nothing else is needed to go on after any round as if nothing had happened.
Most algorithms say which parties are durable and what their coordinator remembers; one whose parties come and go says
how to have them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from raysplit.cluster.contract import Handle, PartySpec, Promise, gather

if TYPE_CHECKING:
    from raysplit.algorithms.setting import Setting


class Memory:
    """The part of an `Algorithm` that checkpoints ask."""

    comes_and_goes: ClassVar[bool] = False
    """A round asks nothing of owners outside its cohort, so that they may come and go between rounds."""

    setting: Setting

    def __init__(self) -> None:
        self.handles: dict[str, Handle] = {}
        self.awaited: set[str] = set()

    def durable(self, parties: list[PartySpec]) -> list[str]:
        """Of the deployed parties, those whose state the next round goes on from: all, unless the algorithm says less.

        Leave a party out only if every round gives it all it needs.
        """
        return [party.name for party in parties]

    def latecomers(self) -> list[PartySpec]:
        """Parties that have been added to those deployed."""
        return []

    async def snapshots(self, parties: list[PartySpec]) -> dict[str, Any]:
        """What every durable party goes on from, by name."""
        return await self.answers({name: self.handles[name].snapshot() for name in self.durable(parties)})

    async def go_back(self, parties: list[PartySpec], snapshots: Mapping[str, Any], memory: Mapping[str, Any]) -> None:
        """Set every party and the coordinator to a round end, whatever is under way; the handles have been attached."""
        told = [party.name for party in parties if party.role == "owner" or party.name in snapshots]
        await self.answers({name: self.handles[name].restore(snapshots.get(name, {})) for name in told})
        self.recall(memory)

    async def answers(self, promises: Mapping[str, Promise]) -> dict[str, Any]:
        """What parties answer, by name; meanwhile ``awaited`` are those who have not."""
        self.awaited = set(promises)

        async def answer(name: str) -> Any:
            value = await promises[name]
            self.awaited.discard(name)
            return value

        return dict(zip(promises, await gather(*[answer(name) for name in promises]), strict=True))

    def memory(self) -> dict[str, Any]:
        """What the coordinator remembers from round to round: plain values, lists, mappings and tensors."""
        return {}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Be as when `memory` gave this; the handles have been attached."""

    def without_idle_owners(self, parties: list[PartySpec]) -> list[str]:
        """For methods that give owners their weights in every round: owners count only for what they keep."""
        training = self.setting.training
        keeps = not training.restart_optimizer or self.setting.buffers == "local"
        return [party.name for party in parties if keeps or party.role != "owner"]
