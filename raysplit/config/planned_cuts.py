"""Replace ``cuts: auto`` and ``links: auto`` by the planner's cuts, nodes and codecs for the topology."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from raysplit.algorithms.route import RouteOptions
from raysplit.config.build import build, build_dry
from raysplit.config.run import AlgorithmConfig, RunConfig
from raysplit.experiment.links import LinkOptions
from raysplit.prediction.plan_cuts import cut_problem, owner_ms
from raysplit.schedulers.cuts.solve import solve_ilp, with_owner_time

if TYPE_CHECKING:
    from raysplit.experiment.codec_costs import CodecCosts
    from raysplit.prediction.codecs.choose import CodecPlan

logger = logging.getLogger(__name__)

_MOST_PLANS = 5
"""How often cuts and codecs are planned in turn."""


def with_plans(config: RunConfig) -> RunConfig:
    """Return the configuration with planned cuts and codecs; one without ``auto`` is returned unchanged."""
    links = config.links
    if not links.auto:
        return with_planned_cuts(config)
    cut, plan = plan_codecs(config, budget_z=links.budget_z, budget_g=links.budget_g)
    chosen = plan.links()
    logger.info(
        "planned links %s: a round takes %.4g s, and %.4g s without codecs", chosen, plan.round_s, plan.plain_round_s
    )
    given = {"weights": links.weights, "labels": links.labels, "warmup_rounds": links.warmup_rounds}
    if not chosen and not links.rules and links.weights == LinkOptions().weights:
        given["warmup_rounds"] = 0  # there is no codec to wait for
    rules = [*[rule.model_dump() for rule in links.rules], *chosen.pop("rules", [])]
    taken = LinkOptions.model_validate({**given, **chosen, "rules": rules})
    if any(codec.lossy for _, codec in taken.link_rules().all_codecs):  # otherwise there are no errors to report
        taken = taken.model_copy(update={"report_every": links.report_every})
    return cut.model_copy(update={"links": taken})


def plan_codecs(config: RunConfig, *, budget_z: float, budget_g: float) -> tuple[RunConfig, CodecPlan]:
    """Choose the codecs of all links between parts, and in turn with them the cuts where these are ``auto``.

    Cuts are planned for links that are as much faster as the codecs of the plan before made them, coding included. Of
    at most five plans, the one whose predicted round is shortest is taken.

    Returns:
        The configuration with its cuts and without codecs at them, and the codecs.

    Raises:
        ConfigError: there is no topology.
        ValueError: the algorithm has no cuts.
    """
    from raysplit.prediction.codecs.choose import choose_codecs

    weights = [rule for rule in config.links.rules if rule.kind == "weights"]
    links = LinkOptions(weights=config.links.weights, labels=config.links.labels, rules=tuple(weights))
    plain, faster = config.model_copy(update={"links": links}), 1.0
    found: list[tuple[RunConfig, CodecPlan]] = []
    while len(found) < _MOST_PLANS:
        cut = with_planned_cuts(plain, faster=faster)
        if any(before.algorithm == cut.algorithm for before, _ in found):
            break
        experiment = build_dry(cut)
        costs = experiment.required_topology.codec_costs
        if costs is None or costs.cuts != tuple(experiment.algorithm.bound(experiment.setting).placed_cuts):
            costs = _measured(cut, costs is not None)
        plan = choose_codecs(experiment, costs, budget_z=budget_z, budget_g=budget_g)
        found.append((cut, plan))
        coded_ms = sum(choice.coded_ms for choice in plan.choices)
        faster = sum(choice.plain_ms for choice in plan.choices) / coded_ms if coded_ms else 1.0
    return min(found, key=lambda each: each[1].round_s)


def _measured(config: RunConfig, has_others: bool) -> CodecCosts:
    from raysplit.prediction.codecs.measure import measure_codecs

    why = "topology.codecs was measured at other cuts" if has_others else "there is no topology.codecs"
    logger.info("%s: the model is trained for some steps on this machine, to measure codecs at the run's cuts", why)
    return measure_codecs(build(config))


def with_planned_cuts(config: RunConfig, *, faster: float = 1.0) -> RunConfig:
    """Return the configuration with planned cuts and nodes for ``cuts: auto``; any other is returned unchanged.

    Args:
        config: the configuration.
        faster: factor on the rates of the nodes' links, where the plan counts links.
    """
    options = config.algorithm.resolved_options()
    if not isinstance(options, RouteOptions) or options.cuts != "auto":
        return config
    experiment = build_dry(config)
    problem = cut_problem(experiment)
    nodes = [
        n if n.link_bytes_per_s is None else replace(n, link_bytes_per_s=n.link_bytes_per_s * faster)
        for n in problem.nodes
    ]
    problem = replace(problem, nodes=tuple(nodes))
    plan = solve_ilp(with_owner_time(problem, partial(owner_ms, experiment, problem)))
    logger.info("planned cuts %s on %s", list(plan.cuts), ", ".join(plan.nodes))
    chosen: dict[str, Any] = {"cuts": list(plan.cuts), "nodes": list(plan.nodes)}
    if config.cluster.elastic is not None:
        chosen["on_offer"] = [node.name for node in problem.nodes]
    algorithm = AlgorithmConfig(**config.algorithm.model_dump() | chosen)
    return config.model_copy(update={"algorithm": algorithm})
