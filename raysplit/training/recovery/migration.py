"""Migration of parts when compute nodes come or leave, as `raysplit.schedulers.cuts.replan` decides."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace

from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.route import Route
from raysplit.cluster.emulation.trace import BYTES_PER_MBIT
from raysplit.experiment.experiment import Experiment
from raysplit.experiment.rules import ElasticRules
from raysplit.prediction.plan_cuts import cut_problem
from raysplit.runs.folder import Row
from raysplit.schedulers.cuts.replan import MovingCost, Replan, replan
from raysplit.schedulers.cuts.solve import InfeasibleError

logger = logging.getLogger(__name__)


class MovingParts:
    """Plan of the parts, which is updated before a round when the compute nodes have changed."""

    def __init__(self, experiment: Experiment, rules: ElasticRules, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        self._problem = cut_problem(experiment)
        self._cost = MovingCost(
            bandwidth_bytes_per_s=rules.move_mbit_per_s * BYTES_PER_MBIT,
            pause_ms=rules.move_pause_s * 1e3,
            min_gain=rules.min_gain,
        )
        self._nodes: tuple[str, ...] = algorithm.on_offer
        self._lacking: list[str] = []
        self._decided: Replan | None = None

    def lacking(self, here: Collection[str], rounds_left: int) -> list[str]:
        """Return why no plan fits the present compute nodes; empty where one does."""
        nodes = tuple(name for name in self._algorithm.on_offer if name in here)
        if nodes != self._nodes:
            self._nodes, self._lacking, self._decided = nodes, [], None
            try:
                self._decide(nodes, rounds_left)
            except InfeasibleError as missing:
                self._lacking = [str(missing)]
        return self._lacking

    def _decide(self, nodes: Collection[str], rounds_left: int) -> None:
        offered = tuple(node for node in self._problem.nodes if node.name in nodes)
        if not offered:
            raise InfeasibleError("there is no compute node")
        (route,) = self._algorithm.routes
        cuts = [cut for cut in route.cuts if isinstance(cut, int)]
        found = replan(
            replace(self._problem, nodes=offered), cuts, route.node_names, rounds_left=rounds_left, moving=self._cost
        )
        logger.info("compute nodes %s are there: %s", ", ".join(nodes), found)
        self._decided = found

    def moved(self, newcomers: Collection[str]) -> Route | None:
        """Return the route to put parts on, once per decision; None where the parts are in place.

        New parties are built with the parts of the first route, so that the current one has to be set again.
        """
        found, self._decided = self._decided, None
        if found is not None and found.is_move:
            return Route(cuts=found.plan.cuts, nodes=found.plan.nodes)
        return self._algorithm.routes[0] if newcomers else None

    def row(self) -> Row:
        """Return the columns of a round's metrics."""
        (route,) = self._algorithm.routes
        return {"cuts": list(route.cuts), "nodes": list(route.node_names)}
