"""``cuts: auto``: the configuration with the cuts and nodes that the planner finds for its topology."""

from __future__ import annotations

import logging
from typing import Any

from raysplit.algorithms.route import RouteOptions
from raysplit.config.build import build_dry
from raysplit.config.run import AlgorithmConfig, RunConfig
from raysplit.prediction.plan_cuts import cut_problem
from raysplit.schedulers.cuts.solve import solve_ilp

logger = logging.getLogger(__name__)


def with_planned_cuts(config: RunConfig) -> RunConfig:
    """The configuration with the planner's cuts and nodes where it says ``cuts: auto``; any other as it is."""
    options = config.algorithm.resolved_options()
    if not isinstance(options, RouteOptions) or options.cuts != "auto":
        return config
    problem = cut_problem(build_dry(config))
    plan = solve_ilp(problem)
    logger.info("planned cuts %s on %s", list(plan.cuts), ", ".join(plan.nodes))
    chosen: dict[str, Any] = {"cuts": list(plan.cuts), "nodes": list(plan.nodes)}
    if config.cluster.elastic is not None:
        chosen["on_offer"] = [node.name for node in problem.nodes]
    algorithm = AlgorithmConfig(**config.algorithm.model_dump() | chosen)
    return config.model_copy(update={"algorithm": algorithm})
