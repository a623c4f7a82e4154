"""SplitFed: the owner trains part 0, the server part 1, and part 0 is averaged as in FedAvg.

Thapa et al., "SplitFed: When Federated Learning Meets Split Learning" (2022, arXiv 2004.12088).

* V1: the server trains one copy of its part per owner and averages the copies at the end of the round. The weights are
  those of FedAvg, bit for bit, wherever the model is cut.
* V2: the server trains one shared part, batch by batch, the owners in random order. `blockwise`: an owner takes all its
  turns of the round before the next owner (as in the authors' code); `interleaved`: the owner changes every batch.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import Field

from raysplit.actors.data_owner import DataOwner, Program
from raysplit.actors.expecting.forms import trained_names
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import RoundContext
from raysplit.actors.routed_node import RoutedNode, RoutedNodeHandle
from raysplit.actors.server_shard import ServerShard, ShardHandle, Sharing
from raysplit.actors.verbs import NodeHandle, Weights
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.setting import AGGREGATOR, SERVER, Cut, Options, RoundReport, SplitOptions, Team
from raysplit.algorithms.unused import OWN_RULES_AT_NODES, RunOutline
from raysplit.cluster.contract import Handle, PartySpec, Promise, gather
from raysplit.seeding import generator

Order = Literal["blockwise", "interleaved"]
SERVER_AGGREGATOR = "server-aggregator"


async def train_batches(owner: DataOwner, team: Team, context: RoundContext) -> None:
    """Train the owner's part and its replica at the server on all batches of the round."""
    for step_id, batch in owner.batches(context):
        z = await owner.first.forward(step_id, batch.x)
        loss, g = await team.server.loss_gradient(step_id, z, batch.y)
        await owner.first_backward(step_id, g, team.server)
        owner.note(step_id, loss, len(batch))


async def v1_round(owner: DataOwner, team: Team, context: RoundContext) -> None:
    await train_batches(owner, team, context)
    await team.aggregator.submit(context, owner.name, owner.weights())
    await team.server.average(context, owner.name)


async def v1_round_judged(owner: DataOwner, team: Team, context: RoundContext) -> None:
    """Average both parts at the aggregator, where rules judge whole models."""
    await train_batches(owner, team, context)
    server: RoutedNodeHandle = team.peers[SERVER]
    await team.aggregator.submit(context, owner.name, owner.weights(), server.replica_state(context, owner.name))


async def v2_round(
    owner: DataOwner, team: Team, context: RoundContext, *, order: Order, seed: int, accumulate: int
) -> None:
    turns = server_turns(context, order, seed, accumulate)[owner.name]
    for turn, (step_id, batch) in zip(turns, owner.batches(context), strict=True):
        z = await owner.first.forward(step_id, batch.x)
        loss, g = await team.server.shared_step(step_id, turn, z, batch.y)
        await owner.first_backward(step_id, g, team.server)
        owner.note(step_id, loss, len(batch))
    await team.aggregator.submit(context, owner.name, owner.weights())


def owners_in_turn(context: RoundContext, seed: int) -> list[str]:
    """Return the cohort in the random order of this round."""
    order = generator(seed, "round", context.round, "owners' order").permutation(len(context.cohort))
    return [context.cohort[i] for i in order]


def server_turns(context: RoundContext, order: Order, seed: int, accumulate: int = 1) -> dict[str, list[int]]:
    """Return the turn at the server of each owner's each batch: turns[owner][batch], counted from 0 in a round.

    The batches that ``accumulate`` joins to a step follow one another.
    """
    visits = [(name, batch) for name in owners_in_turn(context, seed) for batch in range(context.steps(name))]
    if order == "interleaved":
        visits.sort(key=lambda visit: visit[1] // accumulate)  # stable: within a step the owners keep their order
    turns: dict[str, list[int]] = {name: [] for name in context.cohort}
    for turn, (name, _) in enumerate(visits):
        turns[name].append(turn)
    return turns


class SharedServerOptions(SplitOptions):
    """Options of methods whose server part may be spread over several servers."""

    num_servers: int = Field(default=1, ge=1)
    """Number of servers that share the owners and train the server's part in parallel; at most one for each owner."""


class SplitFedV1(Algorithm):
    """SplitFed V1: a replica of the server's part per owner, averaged every round."""

    name = "splitfed_v1"
    title = "SplitFed V1"
    comes_and_goes = True
    clips_models = True
    unused: ClassVar[Mapping[str, str]] = OWN_RULES_AT_NODES
    options_type: ClassVar[type[Options]] = SharedServerOptions
    sums_server_steps: ClassVar[bool] = True
    """Whether each server takes steps of its own; False if all servers take the same ones."""

    _latest: tuple[Handle, ...] = ()  # servers with the newest average; none before the first round

    @classmethod
    def check(cls, options: Any, outline: RunOutline) -> None:
        super().check(options, outline)
        wanted = getattr(options, "num_servers", 1)
        if wanted > len(outline.owners):
            raise ValueError(
                f"algorithm.num_servers is {wanted} and there are {len(outline.owners)} owners, each of which has one "
                f"server; give at most {len(outline.owners)}"
            )

    @property
    def cuts(self) -> tuple[Cut, ...]:
        return (self.options.cut,)

    def parties(self) -> list[PartySpec]:
        # V1 equals FedAvg only if a replica is trained as the owner's own part is: same optimizer, same restarts.
        recipe = self.recipe(1, optimizer=self.setting.optimizer)
        rules: dict[str, Any] = {
            "copies": "per_owner",
            "restart_optimizer": self.setting.training.restart_optimizer,
        }
        if self.judges_whole_models:
            rules |= {"recipes": dict.fromkeys(self.setting.owners, recipe), "loss": self.setting.node_loss}
            routed = [
                PartySpec(name=name, role="node", build=RoutedNode, arguments=rules) for name in self.server_names
            ]
            pieces = {name: {self._server_of(name): trained_names(recipe)} for name in self.setting.owners}
            return [*self.owner_parties(self.recipe(0)), *routed, self.aggregator_party(0, 1, pieces=pieces)]
        return [*self.owner_parties(self.recipe(0)), *self.server_parties(recipe, **rules), self.aggregator_party(0)]

    def _server_of(self, owner: str) -> str:
        return self.server_names[list(self.setting.owners).index(owner) % self.num_servers]

    @property
    def judges_whole_models(self) -> bool:
        """Whether replicas are averaged at the aggregator, because the rules for updates compare whole models."""
        return self.setting.updates.judge_whole_models

    def server_parties(self, recipe: PartRecipe, **arguments: Any) -> list[PartySpec]:
        """Describe one server, or several together with the aggregator of their replicas."""
        if self.num_servers == 1:
            return [self.node_party(SERVER, recipe, **arguments)]
        arguments |= {"recipe": recipe, "loss": self.setting.node_loss}
        shards = [
            PartySpec(name=name, role="node", build=ServerShard, arguments=arguments) for name in self.server_names
        ]
        return [*shards, replace(self.aggregator_party(1), name=SERVER_AGGREGATOR)]

    async def round(self, context: RoundContext) -> RoundReport:
        aggregator = self.aggregator()
        await aggregator.begin(context)
        servers = await self.open_servers(context)
        peers = self.peers(AGGREGATOR)
        teams = {name: Team(peers={**peers, SERVER: servers[name]}) for name in context.cohort}
        reports = await self.run_owners(self.program(), teams, context, aggregator.current())
        serving: Iterable[NodeHandle] = dict.fromkeys(servers.values())
        counts = await gather(*[server.num_steps() for server in serving])
        return RoundReport(owners=reports, server_steps=sum(counts) if self.sums_server_steps else max(counts))

    async def open_servers(self, context: RoundContext) -> dict[str, Handle]:
        """Begin the round at the servers whose owners take part, and return the server of each owner."""
        owners = list(self.setting.owners)
        share = {
            name: [o for o in context.cohort if owners.index(o) % self.num_servers == i]
            for i, name in enumerate(self.server_names)
        }
        active = tuple(self.handles[name] for name, members in share.items() if members)
        if self.num_servers == 1 or self.judges_whole_models:
            await gather(*[server.begin(context) for server in active])
            if self.judges_whole_models:
                await gather(*[server.load_weights(self.aggregator().current()) for server in active])
            return {owner: self.handles[name] for name, members in share.items() for owner in members}
        averaging = self.aggregator(SERVER_AGGREGATOR)
        await averaging.begin(context)
        groups = [tuple(members) for members in share.values() if members]
        await self._bring_up_to_date(active)
        shards: tuple[ShardHandle, ...] = active
        for index, (shard, members) in enumerate(zip(shards, groups, strict=True)):
            sharing = Sharing(owners=members, servers=shards, index=index, aggregator=averaging)
            await shard.begin_share(context, sharing)
        return {owner: server for server, members in zip(active, groups, strict=True) for owner in members}

    async def _bring_up_to_date(self, active: tuple[Handle, ...]) -> None:
        """Update the servers that had no owners in the round before from one that had."""
        behind = [server for server in active if self._latest and server not in self._latest]
        await gather(*[self.brought_up_to_date(server, self._latest[0]) for server in behind])
        self._latest = active

    def brought_up_to_date(self, server: ShardHandle, latest: ShardHandle) -> Promise[None]:
        """Copy the average to a server; the momentum of its owners' replicas stays its own."""
        return server.load_weights(latest.weights())

    @property
    def num_servers(self) -> int:
        """The number of servers, at most one for each owner."""
        wanted: int = self.options.num_servers
        return min(wanted, len(self.setting.owners))

    @property
    def server_names(self) -> list[str]:
        return [SERVER] if self.num_servers == 1 else [f"{SERVER}-{i}" for i in range(self.num_servers)]

    def kind_of(self, owner: str) -> Hashable:
        return list(self.setting.owners).index(owner) % self.num_servers if self.num_servers > 1 else None

    def program(self) -> Program:
        """The owner's round of this method."""
        return v1_round_judged if self.judges_whole_models else v1_round

    def durable(self, parties: list[PartySpec]) -> list[str]:
        return self.without_idle_owners(parties)

    def without_parts(self, parties: list[PartySpec]) -> frozenset[str]:
        return self.idle_owners(parties)

    def state_dict(self) -> dict[str, Any]:
        return {"up to date": [server.name for server in self._latest]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._latest = tuple(self.handles[name] for name in state["up to date"])

    def models(self) -> dict[str, list[Promise[Weights]]]:
        if self.judges_whole_models:
            return {"global": [self.aggregator().current()]}
        server: NodeHandle = self._latest[0] if self._latest else self.node(self.server_names[0])
        return {"global": [self.aggregator().current(), server.weights()]}


class SplitFedV2Options(SplitOptions):
    """Options of SplitFed V2."""

    order: Order = "blockwise"
    """Order of the owners' turns at the shared part: ``blockwise`` gives an owner all its turns of a round before the
    next owner, ``interleaved`` changes the owner after every batch."""


class SplitFedV2(SplitFedV1):
    """SplitFed V2: one shared part at the server, trained on the owners' batches in turn."""

    name = "splitfed_v2"
    title = "SplitFed V2"
    unused: ClassVar[Mapping[str, str]] = {}
    options_type: ClassVar[type[Options]] = SplitFedV2Options

    judges_whole_models = False  # an owner contributes its own part alone

    @property
    def num_servers(self) -> int:
        """Always 1: all owners train the same part in turn."""
        return 1

    def parties(self) -> list[PartySpec]:
        server = self.node_party(SERVER, self.recipe(1), restart_optimizer=self.setting.restart_server_optimizer)
        return [*self.owner_parties(self.recipe(0)), server, self.aggregator_party(0)]

    def kind_of(self, owner: str) -> Hashable:
        return owner  # its turns at the server

    def program(self) -> Program:
        accumulate = self.setting.training.accumulate
        return partial(v2_round, order=self.options.order, seed=self.setting.seed, accumulate=accumulate)
