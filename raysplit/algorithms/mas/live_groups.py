"""The parties of groups of tasks, which are added and removed with their groups during a run.

Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285: the merged task splits into groups during training. A group has an
aggregator of its own. It trains at the owners' own parties, or at copies of them in places of its own if the cluster
has room.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from raysplit.actors.parts.stage import PartRecipe
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.mas.aggregator import GroupAggregator
from raysplit.algorithms.mas.owner import MultiTaskOwner, MultiTaskOwnerHandle
from raysplit.algorithms.mas.phase import TaskGroup, label_of
from raysplit.algorithms.mas.task_owners import TaskOwners
from raysplit.algorithms.setting import AGGREGATOR
from raysplit.cluster.contract import Cluster, NoRoom, PartySpec, gather, name_at, original
from raysplit.models.dense.spec import MultiTaskSpec

logger = logging.getLogger(__name__)

Opening = tuple[tuple[str, ...], int]
"""The tasks of a group, and the round in which it is opened."""


class LiveGroups(Algorithm):
    """An algorithm whose groups of tasks are opened and closed during a run.

    Attributes:
        groups: the groups that train.
        kept: the groups that no longer train, but whose models are still served.
        having: who has which tasks.
        own_models: the models of groups that train another one than the run's, by their tasks.
    """

    can_be_simulated = False

    spec: MultiTaskSpec
    having: TaskOwners
    own_models: Mapping[tuple[str, ...], MultiTaskSpec] = {}
    groups: tuple[TaskGroup, ...] = ()
    kept: tuple[TaskGroup, ...] = ()

    def group_recipe(self, tasks: Sequence[str]) -> PartRecipe:
        """Describe the model of a group and its training."""
        return self.recipe(0, spec=self.own_models.get(tuple(tasks)) or self.spec.of(tasks))

    def parties(self) -> list[PartySpec]:
        return [self._multi_task_owner(name, name) for name in self.setting.owners]

    @property
    def side_by_side(self) -> bool:
        """Whether groups train concurrently."""
        return self.options.run_groups == "concurrent" or all(group.is_apart for group in self.groups)

    # -- opening and closing groups ------------------------------------------------------------------------------

    async def open_groups(self, openings: Sequence[Opening]) -> list[TaskGroup]:
        """Open groups, each in places of its own if the options allow it and the cluster has room."""
        if self.options.run_groups == "auto" and len(openings) > 1:
            try:
                return await self._open_apart(openings)
            except NoRoom as missing:
                logger.info("the groups take turns: %s", missing)
        return await self._open_here(openings)

    async def _open_here(self, openings: Sequence[Opening]) -> list[TaskGroup]:
        """Open groups that train at the owners' own parties."""
        added = [(self._group_aggregator(*opening),) for opening in openings]
        self.handles |= await self._live_cluster.add([party for (party,) in added])
        return [self._group(opening, parties) for opening, parties in zip(openings, added, strict=True)]

    async def _open_apart(self, openings: Sequence[Opening]) -> list[TaskGroup]:
        """Open groups with copies of the owners' parties, each in places of its own. Raises `NoRoom`."""
        sets = {name_at(label_of(tasks), opened): self._apart(tasks, opened) for tasks, opened in openings}
        self.handles |= await self._live_cluster.add_apart(sets)
        return [self._group(opening, parties) for opening, parties in zip(openings, sets.values(), strict=True)]

    def _group(self, opening: Opening, added: Sequence[PartySpec]) -> TaskGroup:
        """Build the record of a group whose parties are deployed."""
        tasks, opened = opening
        *copies, aggregator = added
        having = self.having.owners(tasks)
        names = [copy.name for copy in copies] or having
        return TaskGroup(
            tasks=tasks,
            opened=opened,
            recipe=self.group_recipe(tasks),
            aggregator=self.handles[aggregator.name],
            owners={owner: self.handles[name] for owner, name in zip(having, names, strict=True)},
            added=tuple(added),
        )

    async def close_groups(self, groups: Sequence[TaskGroup]) -> None:
        """Remove the parties of groups, and what owners store for them."""
        if not groups:
            return
        recipes = [group.recipe for group in groups]
        owners: list[MultiTaskOwnerHandle] = [self.handles[name] for name in self.setting.owners]
        await gather(*[owner.forget(recipes) for owner in owners])
        await self._remove([party.name for group in groups for party in group.added])

    async def _remove(self, names: Sequence[str]) -> None:
        for name in names:
            del self.handles[name]
        await self._live_cluster.remove(names)

    @property
    def _live_cluster(self) -> Cluster:
        assert self.cluster is not None, "attach the cluster: groups are opened during the run"
        return self.cluster

    # -- their parties -------------------------------------------------------------------------------------------

    def _multi_task_owner(self, name: str, owner: str) -> PartySpec:
        data = self.setting.owners[owner]
        arguments = {"owner": owner, "shard": data.shard, "transform": data.transform}
        arguments |= {"training": self.local_training(owner), "tasks": self.having.by_owner[owner]}
        return PartySpec(name=name, role="owner", build=MultiTaskOwner, arguments=arguments)

    def _group_aggregator(self, tasks: Sequence[str], opened: int) -> PartySpec:
        name = name_at(f"{AGGREGATOR}-{label_of(tasks)}", opened)
        arguments = {"spec": self.group_recipe(tasks).spec, "rules": self.setting.updates}
        arguments["parts"] = self.having.parts(tasks)
        return PartySpec(name=name, role="aggregator", build=GroupAggregator, arguments=arguments)

    def _apart(self, tasks: Sequence[str], opened: int) -> list[PartySpec]:
        where = name_at(label_of(tasks), opened)
        copies = [self._multi_task_owner(name_at(name, where), name) for name in self.having.owners(tasks)]
        return [*copies, self._group_aggregator(tasks, opened)]

    # -- state ---------------------------------------------------------------------------------------------------

    def latecomers(self) -> list[PartySpec]:
        return [party for group in (*self.groups, *self.kept) for party in group.added]

    async def party_states(self, parties: list[PartySpec]) -> dict[str, Any]:
        """Collect the state of every group: its aggregator's, and its learners' by owner."""
        present = (*self.groups, *self.kept)
        asked = [*(g.aggregator for g in present), *(h for g in self.groups for h in g.owners.values())]
        states = await self.answers({handle.name: handle.state_dict() for handle in dict.fromkeys(asked)})
        found: dict[str, Any] = {g.key: {"aggregator": states[g.aggregator.name], "owners": {}} for g in present}
        for group in self.groups:
            learners = {owner: states[handle.name].get(group.label, {}) for owner, handle in group.owners.items()}
            found[group.key]["owners"] = learners
        return found

    async def load_party_states(
        self, parties: list[PartySpec], states: Mapping[str, Any], own: Mapping[str, Any]
    ) -> None:
        """Restore the state after a round; first its groups are opened again, and others are closed."""
        owners = [name for name in self.handles if original(name) in self.setting.owners]
        await self.answers({name: self.party(name).load_state_dict({}) for name in owners})
        wanted = [[(tuple(tasks), opened) for tasks, opened in own[kind]] for kind in ("groups", "kept")]
        found = {opening: party for opening in (*wanted[0], *wanted[1]) if (party := self._found(opening))}
        setting = self.setting
        held = (*setting.evaluators, *setting.validators, *setting.own_validators)
        first = {*setting.owners, *(party.name for party in held)}
        staying = first | {party.name for added in found.values() for party in added}
        await self._remove([name for name in self.handles if name not in staying])
        present = {opening: self._group(opening, added) for opening, added in found.items()}
        for openings, open_missing in zip(wanted, (self.open_groups, self._open_here), strict=True):
            missing = [opening for opening in openings if opening not in present]
            present |= dict(zip(missing, await open_missing(missing), strict=True)) if missing else {}
        self.groups, self.kept = (tuple(present[opening] for opening in openings) for openings in wanted)
        await self._load_groups(states)
        self.load_state_dict(own)

    def _found(self, opening: Opening) -> Sequence[PartySpec]:
        """Describe the parties of a group if all are deployed; empty if not."""
        for added in (self._apart(*opening), [self._group_aggregator(*opening)]):
            if all(party.name in self.handles for party in added):
                return added
        return ()

    async def _load_groups(self, states: Mapping[str, Any]) -> None:
        learners: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        loads = {}
        for group in (*self.groups, *self.kept):
            loads[group.aggregator.name] = group.aggregator.load_state_dict(states[group.key]["aggregator"])
            for owner, kept in states[group.key]["owners"].items():
                learners[group.owners[owner].name][group.label] = kept
        loads |= {name: self.party(name).load_state_dict(kept) for name, kept in learners.items()}
        await self.answers(loads)
