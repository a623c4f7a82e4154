"""What a run goes on from after any round: the states of the parties that outlive it, and the coordinator's own.

Random streams are keyed by round, so nothing else is needed to go on as if nothing had happened. Parties and algorithms
share one pair of verbs, as PyTorch names it: ``state_dict()`` tells what its object goes on from, and
``load_state_dict(state)`` has it go on from there. A party also gives up the round that is under way; an empty state
leaves its weights alone. An algorithm says which parties are durable and what its coordinator goes on from; one whose
parties come and go says how to have them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from raysplit.actors.data_owner import DataOwner
from raysplit.actors.verbs import PartyHandle
from raysplit.cluster.contract import Handle, PartySpec, Promise, gather

if TYPE_CHECKING:
    from raysplit.algorithms.setting import Setting


class Resumable:
    """The part of an `Algorithm` that checkpoints ask."""

    comes_and_goes: ClassVar[bool] = False
    """A round asks nothing of owners outside its cohort, so that they may come and go between rounds."""

    setting: Setting

    def __init__(self) -> None:
        self.handles: dict[str, Handle] = {}
        self.awaited: set[str] = set()

    def party(self, name: str) -> PartyHandle:
        """The handle of a party whose role does not matter."""
        return self.handles[name]

    # -- the coordinator -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What the coordinator goes on from: plain values, lists, mappings and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`; the handles have been attached."""

    # -- the parties ---------------------------------------------------------------------------------------------

    def durable(self, parties: list[PartySpec]) -> list[str]:
        """Of the deployed parties, those whose state the next round goes on from: all, unless the algorithm says less.

        Leave a party out only if every round gives it all it needs.
        """
        return [party.name for party in parties]

    def without_idle_owners(self, parties: list[PartySpec]) -> list[str]:
        """For methods that give owners their weights in every round: owners count only for what they keep, such as
        momentum, statistics of their own, or what a subclass of `DataOwner` has in its ``state_dict``. A subclass with
        a round of its own keeps all, until it says by a `durable` of its own that it gives owners their weights too.
        """
        training = self.setting.training
        keeps = not training.restart_optimizer or self.setting.buffers == "local" or self._round_is_newer()
        return [p.name for p in parties if keeps or p.role != "owner" or keeps_more_than_parts(p)]

    @classmethod
    def _round_is_newer(cls) -> bool:
        """Whether ``round`` was written in a subclass of the class whose `durable` speaks for it."""
        written = {name: kind for kind in reversed(cls.__mro__) for name in ("durable", "round") if name in vars(kind)}
        return written["round"] is not written["durable"] and issubclass(written["round"], written["durable"])

    def latecomers(self) -> list[PartySpec]:
        """Parties that have been added to those deployed."""
        return []

    async def party_states(self, parties: list[PartySpec]) -> dict[str, Any]:
        """What every durable party goes on from, by name."""
        return await self.answers({name: self.party(name).state_dict() for name in self.durable(parties)})

    async def load_party_states(
        self, parties: list[PartySpec], states: Mapping[str, Any], own: Mapping[str, Any]
    ) -> None:
        """Set every party to a round end, whatever is under way, and the coordinator to its ``own`` state.

        The handles have been attached. Owners without a state give up their round and keep what they have.
        """
        told = [party.name for party in parties if party.role == "owner" or party.name in states]
        await self.answers({name: self.party(name).load_state_dict(states.get(name, {})) for name in told})
        self.load_state_dict(own)

    async def answers(self, promises: Mapping[str, Promise[Any]]) -> dict[str, Any]:
        """What parties answer, by name; meanwhile ``awaited`` are those who have not."""
        self.awaited = set(promises)

        async def answer(name: str) -> Any:
            value = await promises[name]
            self.awaited.discard(name)
            return value

        return dict(zip(promises, await gather(*[answer(name) for name in promises]), strict=True))


def keeps_more_than_parts(party: PartySpec) -> bool:
    """Whether this owner goes on from more than its parts of the model."""
    return getattr(party.build, "state_dict", None) is not DataOwner.state_dict
