"""SplitFed: the owner trains part 0, the server part 1, and part 0 is averaged like in FedAvg.

Thapa et al., "SplitFed: When Federated Learning Meets Split Learning" (2022, arXiv 2004.12088).

* V1: the server trains one copy of its part per owner and averages the copies at the end of the round. Same weights
  as FedAvg, bit for bit, wherever the model is cut.
* V2: the server trains one shared part, batch by batch, the owners in random order. `blockwise`: an owner has all its
  turns of the round before the next one (as in the authors' code); `interleaved`: the owner changes every batch.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

from raysplit.actors.data_owner import DataOwner, Program
from raysplit.actors.records import RoundTask
from raysplit.algorithms.base import AGGREGATOR, SERVER, Algorithm, Cut, Options, RoundReport, SplitOptions, Team
from raysplit.cluster.contract import PartySpec, Promise, gather
from raysplit.data.streams import generator

Order = Literal["blockwise", "interleaved"]


async def v1_round(owner: DataOwner, team: Team, task: RoundTask) -> None:
    for tag, batch in owner.batches(task):
        z = await owner.first.forward(tag, batch.x)
        loss, g = await team.server.loss_gradient(tag, z, batch.y)
        await owner.first_backward(tag, g)
        owner.note(tag, loss, len(batch))
    await team.aggregator.submit(task, owner.name, owner.parts_state())
    await team.server.average(task, owner.name)


async def v2_round(owner: DataOwner, team: Team, task: RoundTask, *, order: Order, seed: int) -> None:
    turns = server_turns(task, order, seed)[owner.name]
    for tag, batch in owner.batches(task):
        z = await owner.first.forward(tag, batch.x)
        loss, g = await team.server.shared_step(tag, turns[tag.step], z, batch.y)
        await owner.first_backward(tag, g)
        owner.note(tag, loss, len(batch))
    await team.aggregator.submit(task, owner.name, owner.parts_state())


def owners_in_turn(task: RoundTask, seed: int) -> list[str]:
    """The cohort in the random order of this round."""
    order = generator(seed, "round", task.round, "owners' order").permutation(len(task.cohort))
    return [task.cohort[i] for i in order]


def server_turns(task: RoundTask, order: Order, seed: int) -> dict[str, list[int]]:
    """For each owner the turns of its steps at the server: turns[owner][step], 0 being the first of the round."""
    visits = [(name, step) for name in owners_in_turn(task, seed) for step in range(task.steps(name))]
    if order == "interleaved":
        visits.sort(key=lambda visit: visit[1])  # stable: within a step the owners keep their order
    turns: dict[str, list[int]] = {name: [] for name in task.cohort}
    for turn, (name, _) in enumerate(visits):
        turns[name].append(turn)
    return turns


class SplitFedV1(Algorithm):
    name = "splitfed_v1"
    title = "SplitFed V1"
    options_type: ClassVar[type[Options]] = SplitOptions

    @property
    def cuts(self) -> tuple[Cut, ...]:
        return (self.options.cut,)

    def parties(self) -> list[PartySpec]:
        # A replica is an owner's model as much as its front is: it follows the owners' rules in everything.
        recipe = self.recipe(1, optimizer=self.setting.optimizer)
        restart = self.setting.training.restart_optimizer
        server = self.node_party(SERVER, recipe, copies="per_owner", restart_optimizer=restart)
        return [*self.owner_parties(self.recipe(0)), server, self.aggregator_party(0)]

    async def round(self, task: RoundTask) -> RoundReport:
        aggregator, server = self.handles[AGGREGATOR], self.handles[SERVER]
        await gather(aggregator.begin(task), server.begin(task))
        team = Team(peers={AGGREGATOR: aggregator, SERVER: server})
        reports = await self.run_owners(self.program(), team, task, aggregator.current())
        return RoundReport(owners=reports, server_steps=await server.num_steps())

    def program(self) -> Program:
        """The owner's round."""
        return v1_round

    def models(self) -> dict[str, list[Promise]]:
        return {"global": [self.handles[AGGREGATOR].current(), self.handles[SERVER].state()]}


class SplitFedV2Options(SplitOptions):
    """``order`` of the owners at the shared part."""

    order: Order = "blockwise"


class SplitFedV2(SplitFedV1):
    name = "splitfed_v2"
    title = "SplitFed V2"
    options_type: ClassVar[type[Options]] = SplitFedV2Options

    def parties(self) -> list[PartySpec]:
        server = self.node_party(SERVER, self.recipe(1), restart_optimizer=self.setting.restart_server_optimizer)
        return [*self.owner_parties(self.recipe(0)), server, self.aggregator_party(0)]

    def program(self) -> Program:
        return partial(v2_round, order=self.options.order, seed=self.setting.seed)
