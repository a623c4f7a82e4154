"""SplitNN: split learning with one owner after the other.

Gupta and Raskar, "Distributed learning of deep neural network over multiple agents" (2018, arXiv 1810.06060);
Vepakomma et al. (2018, arXiv 1812.00564). The owner's part is passed from owner to owner; nothing is averaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from raysplit.actors.data_owner import DataOwner
from raysplit.actors.records import OwnerReport, RoundContext
from raysplit.actors.verbs import Weights
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.setting import SERVER, Cut, Options, RoundReport, SplitOptions, Team
from raysplit.algorithms.splitfed import owners_in_turn
from raysplit.algorithms.unused import NO_AVERAGE
from raysplit.cluster.contract import PartySpec, Promise


async def splitnn_round(owner: DataOwner, team: Team, context: RoundContext) -> None:
    for step_id, batch in owner.batches(context):
        z = await owner.first.forward(step_id, batch.x)
        loss, g = await team.server.loss_gradient(step_id, z, batch.y)
        await owner.first_backward(step_id, g, team.server)
        owner.note(step_id, loss, len(batch))


class SplitNN(Algorithm):
    """SplitNN: owners train in a random order, each from the weights of the one before."""

    name = "splitnn"
    title = "SplitNN"
    unused = NO_AVERAGE
    clips_models = True
    options_type: ClassVar[type[Options]] = SplitOptions

    @property
    def cuts(self) -> tuple[Cut, ...]:
        return (self.options.cut,)

    def parties(self) -> list[PartySpec]:
        server = self.node_party(SERVER, self.recipe(1), restart_optimizer=self.setting.restart_server_optimizer)
        return [*self.owner_parties(self.recipe(0)), server]

    async def round(self, context: RoundContext) -> RoundReport:
        server = self.node()
        await server.begin(context)
        reports: dict[str, OwnerReport] = {}
        for name in owners_in_turn(context, self.setting.seed):
            team = Team(peers=self.peers(SERVER))
            reports[name] = await self.owner(name).run_round(splitnn_round, team, context, self._front())
            self._holder = name
        return RoundReport(
            owners=tuple(reports[name] for name in context.cohort), server_steps=await server.num_steps()
        )

    _holder: str | None = None

    def _front(self) -> Promise[Weights]:
        """Promise the owner's part of the owner that trained last; at first all owners hold the same."""
        return self.owner(self._holder or next(iter(self.setting.owners))).weights()

    def durable(self, parties: list[PartySpec]) -> list[str]:
        """Include the owner that trained last: only it has the newest weights of the owner's part."""
        holder = self._holder or next(iter(self.setting.owners))
        return list(dict.fromkeys([*self.without_idle_owners(parties), holder]))

    def without_parts(self, parties: list[PartySpec]) -> frozenset[str]:
        return self.idle_owners(parties) - {self._holder or next(iter(self.setting.owners))}

    def state_dict(self) -> dict[str, Any]:
        return {"holder": self._holder}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._holder = state["holder"]

    def models(self) -> dict[str, list[Promise[Weights]]]:
        return {"global": [self._front(), self.node().weights()]}
