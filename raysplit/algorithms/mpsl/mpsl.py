"""MP-SL: multihop parallel split learning, with both ends of the model at the owner and the middle on compute nodes.

Tirana, Lalis and Chatzopoulos, "MP-SL: Multihop Parallel Split Learning" (2024, arXiv 2402.00208). The chain of units
is cut at ``c0 < c1 < ... < cN``: units before c0 and from cN on stay with the owner, so neither inputs nor labels
leave it, and node i runs units c(i-1) to c(i) - 1 on a replica for each owner. A batch goes through all nodes and
comes back through them; it travels from node to node. An owner has one batch in flight and owners do not wait for one
another, so the nodes work on different owners at the same time. At the end of the round every node averages its
replicas in place and the aggregator averages the owners' ends: the weights are those of FedAvg, bit for bit.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import Field

from raysplit.actors.data_owner import Batch, DataOwner, Program
from raysplit.actors.expecting.forms import trained_names
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import RoundContext, StepId
from raysplit.actors.routed_node import RoutedNode, RoutedNodeHandle
from raysplit.actors.steps.exchange import clip_along
from raysplit.actors.verbs import NodeHandle, Weights
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.mpsl.migration import refuse_to_move, whole_state
from raysplit.algorithms.route import Route, RouteOptions
from raysplit.algorithms.setting import AGGREGATOR, Cut, Options, RoundReport, Setting, Team
from raysplit.algorithms.unused import DIVERGENCE, LABELS, OWN_LABELS, OWN_RULES_AT_NODES, RunOutline
from raysplit.cluster.contract import PartySpec, Promise, gather
from raysplit.cluster.device_queue import QueueDevice
from raysplit.models.frozen import trained_state


async def train_batch(owner: DataOwner, nodes: Sequence[NodeHandle], step_id: StepId, batch: Batch) -> None:
    z: Any = await owner.first.forward(step_id, batch.x)  # the owner sends smashed data, never x
    untold = step_id.untold  # nodes need not know how many targets a step has
    for node in nodes:
        z = node.forward(untold, z)  # a promise: the value travels from node to node
    g = await owner.loss_gradient(step_id, await z, batch)  # labels stay at the owner too
    for node in reversed(nodes):
        g = node.backward(untold, g)
    if owner.last.exchanges_norms and step_id.is_last:
        await owner.first.backward(step_id, await g)
        await clip_along(owner.first, owner.last, nodes, untold)
        return
    await owner.last.update(step_id)  # overlaps with the gradient's way back
    await owner.first_backward(step_id, await g)


async def mpsl_round(owner: DataOwner, team: Team, context: RoundContext) -> None:
    for step_id, batch in owner.batches(context):
        await train_batch(owner, team.nodes, step_id, batch)
    submitted = team.aggregator.submit(context, owner.name, owner.weights())
    await gather(submitted, *[node.average(context, owner.name) for node in team.nodes])


async def routed_round(
    owner: DataOwner, team: Team, context: RoundContext, *, routes: Mapping[str, Sequence[str]]
) -> None:
    """Average at the aggregator, by the names of weights: replicas hold different units, or are judged as wholes."""
    nodes: list[RoutedNodeHandle] = [team.peers[name] for name in routes[owner.name]]
    for step_id, batch in owner.batches(context):
        await train_batch(owner, nodes, step_id, batch)
    replicas = [node.replica_state(context, owner.name) for node in nodes]
    await team.aggregator.submit(context, owner.name, owner.weights(), *replicas)


class MPSLOptions(RouteOptions):
    """Options of MP-SL: cuts and compute nodes for all owners, with exceptions for single ones."""

    queue: Literal["fifo", "backward_first", "fair"] = "fifo"
    """Order of a node's waiting tasks: ``fifo`` runs the earliest, ``backward_first`` backward passes before forward
    passes, ``fair`` the owner served least."""
    owner_routes: dict[str, Route] = Field(default_factory=dict)
    """Other cuts or nodes for single owners, by owner; all weights are then averaged at the aggregator."""


class MPSL(Algorithm):
    """MP-SL: batches travel along a chain of compute nodes, which work for different owners at the same time."""

    name = "mpsl"
    title = "MP-SL"
    comes_and_goes = True
    clips_models = True
    keeps_both_ends = True
    sends_gradients = True
    unused = {
        **OWN_RULES_AT_NODES,
        **OWN_LABELS,
        LABELS: "labels stay at their owners",
        "privacy.project": "smashed data go on from node to node, and each would project them",
    }
    options_type: ClassVar[type[Options]] = MPSLOptions

    @classmethod
    def check(cls, options: Any, outline: RunOutline) -> None:
        super().check(options, outline)
        outline.require_owners("owner_routes", options.owner_routes)
        if options.owner_routes and DIVERGENCE in outline.given:
            raise ValueError(
                f"{DIVERGENCE} compares gradients of the owners' first parts, and algorithm.owner_routes cuts them "
                f"differently; leave one of them out"
            )

    def set_up(self, setting: Setting) -> None:
        options: MPSLOptions = self.options
        super().set_up(setting)
        default = options.route()
        self._routes = {name: options.owner_routes.get(name, default) for name in setting.owners}
        self._distinct = tuple(dict.fromkeys(self._routes.values()))
        self._uniform = len(self._distinct) == 1 and not setting.updates.judge_whole_models
        if options.on_offer is not None:
            refuse_to_move(setting, self._distinct, options.on_offer)

    @property
    def cuts(self) -> tuple[Cut, ...]:
        return self._distinct[0].cuts

    @property
    def routes(self) -> tuple[Route, ...]:
        """The distinct routes that owners take."""
        return self._distinct

    @property
    def node_names(self) -> tuple[str, ...]:
        """Names of all compute nodes, in the order of their first mention in the routes."""
        return tuple(dict.fromkeys(name for route in self._distinct for name in route.node_names))

    # -- who is deployed where -----------------------------------------------------------------------------------

    @property
    def on_offer(self) -> tuple[str, ...]:
        return self.options.on_offer or ()

    def parties(self) -> list[PartySpec]:
        spares = [name for name in self.on_offer if name not in self.node_names]
        return [*self._owners(), *map(self._node, [*self.node_names, *spares]), self._aggregator()]

    def _owners(self) -> list[PartySpec]:
        ends = {route: (self._part(route, 0), self._part(route, len(route.cuts))) for route in self._distinct}
        return [self.owner_party(name, *ends[route]) for name, route in self._routes.items()]

    def _node(self, name: str) -> PartySpec:
        # MP-SL equals FedAvg only if a replica is trained as the owner's ends are: same optimizer, same restarts.
        rules: dict[str, Any] = {
            "copies": "per_owner",
            "restart_optimizer": self.setting.training.restart_optimizer,
            "device": QueueDevice(policy=self.options.queue),
        }
        parts = {
            route: self._part(route, 1 + route.node_names.index(name))
            for route in self._distinct
            if name in route.node_names
        }
        if self._uniform:
            return self.node_party(name, parts.get(self._distinct[0]) or self._part(self._distinct[0], 1), **rules)
        recipes = {owner: parts[route] for owner, route in self._routes.items() if route in parts}
        return PartySpec(name=name, role="node", build=RoutedNode, arguments={"recipes": recipes, **rules})

    def _aggregator(self) -> PartySpec:
        last = len(self.cuts)
        if self._uniform:
            return self.aggregator_party(0, last)
        held = {r: {n: trained_names(self._part(r, i)) for i, n in enumerate(r.node_names, 1)} for r in self._distinct}
        pieces = {owner: held[route] for owner, route in self._routes.items()}
        return self.aggregator_party(*range(last + 1), pieces=pieces)

    def _part(self, route: Route, index: int) -> PartRecipe:
        return self.recipe(index, cuts=route.cuts, optimizer=self.setting.optimizer)

    # -- a round -------------------------------------------------------------------------------------------------

    async def round(self, context: RoundContext) -> RoundReport:
        aggregator, nodes = self.aggregator(), tuple(map(self.node, self.node_names))
        await gather(aggregator.begin(context), *[node.begin(context) for node in nodes])
        if not self._uniform:
            await gather(*[node.load_weights(aggregator.current()) for node in nodes])
        team = Team(peers=self.peers(AGGREGATOR, *self.node_names), nodes=nodes)
        return RoundReport(owners=await self.run_owners(self.program(), team, context, aggregator.current()))

    def kind_of(self, owner: str) -> Hashable:
        return self._routes[owner]

    def program(self) -> Program:
        """The owner's round of this method."""
        if self._uniform:
            return mpsl_round
        return partial(routed_round, routes={name: route.node_names for name, route in self._routes.items()})

    def durable(self, parties: list[PartySpec]) -> list[str]:
        return self.without_idle_owners(parties)

    def without_parts(self, parties: list[PartySpec]) -> frozenset[str]:
        return self.idle_owners(parties)

    # -- parts that move -----------------------------------------------------------------------------------------

    def take_route(self, route: Route) -> None:
        """Give all owners this route; the next `load_party_states` moves the parts to its nodes."""
        self._distinct, self._routes = (route,), dict.fromkeys(self._routes, route)

    def state_dict(self) -> dict[str, Any]:
        return {"nodes": list(self.node_names)} if self.on_offer else {}

    async def load_party_states(
        self, parties: list[PartySpec], states: Mapping[str, Any], own: Mapping[str, Any]
    ) -> None:
        """Restore the state after a round; parts that may move are joined first, then cut by the present route."""
        if not self.on_offer:
            await super().load_party_states(parties, states, own)
            return
        (route,) = self._distinct
        last = len(route.cuts)
        state = whole_state(self.setting.spec, states, own["nodes"])
        held = [trained_state(part).keys() for part in self.setting.spec.parts(route.cuts)]
        ends = (self._part(route, 0), self._part(route, last))
        owners = [self.owner(party.name) for party in parties if party.role == "owner"]
        nodes = [self.node(name) for name in route.node_names]
        kept = {key: state[key] for key in (*held[0], *held[last])}
        await gather(
            self.aggregator().load_state_dict({"current": kept}),
            *[owner.recut(ends) for owner in owners],
            *[node.recut(self._part(route, i)) for i, node in enumerate(nodes, start=1)],
        )
        parts = [{key: state[key] for key in keys} for keys in held[1:-1]]
        await gather(*[node.load_weights(part) for node, part in zip(nodes, parts, strict=True)])

    def models(self) -> dict[str, list[Promise[Weights]]]:
        nodes = self.node_names if self._uniform else ()
        return {"global": [self.aggregator().current(), *[self.node(name).weights() for name in nodes]]}
