"""Replace ``cuts: auto`` by the cuts and nodes that the planner chooses for the topology."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from raysplit.algorithms.route import RouteOptions
from raysplit.config.build import build_dry
from raysplit.config.run import AlgorithmConfig, RunConfig
from raysplit.prediction.plan_cuts import cut_problem, owner_ms
from raysplit.schedulers.cuts.solve import solve_ilp, with_owner_time

logger = logging.getLogger(__name__)


def with_planned_cuts(config: RunConfig) -> RunConfig:
    """Return the configuration with planned cuts and nodes for ``cuts: auto``; any other is returned unchanged."""
    options = config.algorithm.resolved_options()
    if not isinstance(options, RouteOptions) or options.cuts != "auto":
        return config
    experiment = build_dry(config)
    problem = cut_problem(experiment)
    plan = solve_ilp(with_owner_time(problem, partial(owner_ms, experiment, problem)))
    logger.info("planned cuts %s on %s", list(plan.cuts), ", ".join(plan.nodes))
    chosen: dict[str, Any] = {"cuts": list(plan.cuts), "nodes": list(plan.nodes)}
    if config.cluster.elastic is not None:
        chosen["on_offer"] = [node.name for node in problem.nodes]
    algorithm = AlgorithmConfig(**config.algorithm.model_dump() | chosen)
    return config.model_copy(update={"algorithm": algorithm})
