"""The state from which a run resumes after any round: that of its durable parties, and the coordinator's own.

Random streams are keyed by round, so this state suffices to continue bit for bit. Parties and algorithms share one pair
of verbs, named as in PyTorch: ``state_dict()`` returns the state, ``load_state_dict(state)`` restores it. A party also
aborts the round that it is in; an empty state leaves its weights as they are. An algorithm states which parties are
durable; one that adds parties during a run also states how to add them again.
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
    """The part of an `Algorithm` that saves and restores state; the checkpoints of a run use it."""

    comes_and_goes: ClassVar[bool] = False
    """Whether a round calls no owner outside its cohort, so that owners may join and leave between rounds."""

    setting: Setting

    def __init__(self) -> None:
        self.handles: dict[str, Handle] = {}
        self.awaited: set[str] = set()

    def party(self, name: str) -> PartyHandle:
        """The handle of a party of any role."""
        return self.handles[name]

    # -- the coordinator -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the coordinator's own state: plain values, lists, mappings and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`, after the handles have been attached."""

    # -- the parties ---------------------------------------------------------------------------------------------

    def durable(self, parties: list[PartySpec]) -> list[str]:
        """Names of the parties whose state a checkpoint keeps: all of them by default.

        Leave out a party only if every round sends it everything that it needs.
        """
        return [party.name for party in parties]

    def without_idle_owners(self, parties: list[PartySpec]) -> list[str]:
        """Names of the durable parties of a method that sends owners their weights in every round.

        An owner is durable only if it keeps more: momentum, its own batch-norm statistics, or what a subclass of
        `DataOwner` adds to its ``state_dict``. All owners of an algorithm that overrides `round` are durable, until it
        overrides `durable` as well to say that it sends owners their weights too.
        """
        idle = () if self.setting.links_keep_state else self.idle_owners(parties)
        return [party.name for party in parties if party.name not in idle]

    def idle_owners(self, parties: list[PartySpec]) -> frozenset[str]:
        """Names of the owners that keep nothing in their parts from one round to the next, as `without_idle_owners`."""
        training = self.setting.training
        if not training.restart_optimizer or self.setting.buffers == "local" or self._round_is_newer():
            return frozenset()
        return frozenset(p.name for p in parties if p.role == "owner" and not keeps_more_than_parts(p))

    def without_parts(self, parties: list[PartySpec]) -> frozenset[str]:
        """Names of the durable owners of which a checkpoint needs what their links keep, and not their parts.

        An algorithm that overrides `durable` with `without_idle_owners` overrides this with `idle_owners`.
        """
        return frozenset()

    @classmethod
    def _round_is_newer(cls) -> bool:
        """Whether ``round`` was written in a subclass of the class whose `durable` speaks for it."""
        written = {name: cls._written_in(name) for name in ("durable", "round")}
        return written["round"] is not written["durable"] and issubclass(written["round"], written["durable"])

    @classmethod
    def _written_in(cls, name: str) -> type:
        return next(kind for kind in cls.__mro__ if name in vars(kind))

    def latecomers(self) -> list[PartySpec]:
        """Describe the parties that have been added since the deployment."""
        return []

    async def party_states(self, parties: list[PartySpec]) -> dict[str, Any]:
        """Collect the state of every durable party, by name."""
        states = await self.answers({name: self.party(name).state_dict() for name in self.durable(parties)})
        speaks = self._written_in("without_parts") is self._written_in("durable")
        for name in self.without_parts(parties) & states.keys() if speaks else ():
            states[name] = {key: value for key, value in states[name].items() if key != "parts"}
        return states

    async def load_party_states(
        self, parties: list[PartySpec], states: Mapping[str, Any], own: Mapping[str, Any]
    ) -> None:
        """Restore the state after a round at every party and at the coordinator, aborting what is under way.

        Args:
            parties: the deployed parties, whose handles have been attached.
            states: states of parties by name. Owners without one abort their round and keep their weights.
            own: the coordinator's state.
        """
        called = [party.name for party in parties if party.role == "owner" or party.name in states]
        await self.answers({name: self.party(name).load_state_dict(states.get(name, {})) for name in called})
        self.load_state_dict(own)

    async def answers(self, promises: Mapping[str, Promise[Any]]) -> dict[str, Any]:
        """Await the answers of parties by name; until then ``awaited`` holds the names of those that are missing."""
        self.awaited = set(promises)

        async def answer(name: str) -> Any:
            value = await promises[name]
            self.awaited.discard(name)
            return value

        return dict(zip(promises, await gather(*[answer(name) for name in promises]), strict=True))


def keeps_more_than_parts(party: PartySpec) -> bool:
    """Whether this owner's state holds more than its parts of the model."""
    return getattr(party.build, "state_dict", None) is not DataOwner.state_dict
