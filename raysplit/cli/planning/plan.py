"""`raysplit plan`: choose cuts and compute nodes for a model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from raysplit.cli.options import FilePath, NewFile
from raysplit.cli.planning.plan_tables import comparison, print_plan
from raysplit.cli.planning.quantities import parse_nodes, parse_units
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import print_figure, print_table
from raysplit.cli.waiting import Waiting
from raysplit.paths import expanded

if TYPE_CHECKING:  # help must not wait for torch, matplotlib and the solvers
    from raysplit.schedulers.cuts.ilp import Solver
    from raysplit.schedulers.cuts.leakage import LeakMetric
    from raysplit.schedulers.cuts.solve import CutProblem


@click.command(name="plan")
@click.argument("config", required=False, type=FilePath())
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one setting of CONFIG; repeatable."
)
@click.option("--profile", metavar="NAME", help="A shipped profile, or a .parquet or .csv file.")
@click.option("--units", metavar="FIRST:LAST", help="Units that the compute nodes run, both included.")
@click.option("--owner-memory", metavar="SIZE", help="Instead of --units: memory of an owner, such as 1GiB.")
@click.option(
    "--owner-slowdown",
    type=click.FloatRange(0, min_open=True),
    metavar="X",
    help="With --owner-memory: times slower than the profile (default 1).",
)
@click.option("--owners", type=int, metavar="N", help="Data owners; a node holds one replica for each.")
@click.option(
    "--node", "nodes", multiple=True, metavar="NODE", help="A node: MEMORY:SLOWDOWN[:PRICE_PER_HOUR] or a kind."
)
@click.option(
    "--links", multiple=True, metavar="BANDWIDTH", help="Bandwidth of all nodes, or of each, such as 100Mbit."
)
@click.option(
    "--objective",
    type=click.Choice(["sum_of_max", "bottleneck", "price"]),
    default="sum_of_max",
    show_default=True,
    help="What to minimize.",
)
@click.option(
    "--max-time-ms", type=float, default=math.inf, metavar="MS", help="Objective price: longest time per batch."
)
@click.option(
    "--memory-model",
    type=click.Choice(["activations_and_parameters", "with_gradients_and_optimizer"]),
    default="activations_and_parameters",
    show_default=True,
    help="Memory of a replica; the second counts weights three times.",
)
@click.option(
    "--nodes-used",
    type=click.Choice(["all", "any"]),
    help="Use all nodes (default), or any (for price, --front).",
)
@click.option("--batches", default=32, show_default=True, metavar="N", help="Batches of each owner in a round.")
@click.option(
    "--solver", type=click.Choice(["cbc", "highs", "dp"]), default="cbc", show_default=True, help="Solver to use."
)
@click.option("--send-inputs", is_flag=True, help="Allow cuts at which raw inputs leave the owner.")
@click.option("--front", is_flag=True, help="Show all trade-offs of time, price, bytes and leakage.")
@click.option("--baselines", is_flag=True, help="Compare with a manual split, one node and copies.")
@click.option("--max-leak", type=click.FloatRange(0, 1), metavar="X", help="Allow first cuts that leak at most X.")
@click.option(
    "--leak-metric",
    type=click.Choice(["leak_fisher", "dcor2_unbiased"]),
    default="leak_fisher",
    show_default=True,
    help="The measure of --max-leak, from raysplit profile --leak.",
)
@click.option("--picture", type=NewFile(), help="Figure to write (.png).")
@click.option(
    "--codecs",
    type=click.Choice(["auto"]),
    help="Choose a codec for each link of CONFIG instead of cuts.",
)
@click.option(
    "--budget",
    default="0.01:0.1",
    show_default=True,
    metavar="Z:G",
    help="With --codecs: largest error of smashed data and gradients.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def plan(
    config: Path | None,
    overrides: tuple[str, ...],
    profile: str | None,
    units: str | None,
    owner_memory: str | None,
    owner_slowdown: float | None,
    owners: int | None,
    nodes: tuple[str, ...],
    links: tuple[str, ...],
    objective: str,
    max_time_ms: float,
    memory_model: str,
    nodes_used: str | None,
    batches: int,
    solver: Solver | Literal["dp"],
    send_inputs: bool,
    front: bool,
    baselines: bool,
    max_leak: float | None,
    leak_metric: LeakMetric,
    picture: Path | None,
    codecs: str | None,
    budget: str,
    as_json: bool,
) -> None:
    """Choose cuts and compute nodes for a model.

    The model, its owners and the available nodes come from CONFIG, a YAML file with a topology, or from --profile,
    --units, --owners and --node. F and G are the forward and backward times of a node. The objective sum_of_max is
    max F + max G (the paper's), bottleneck is max (F + G), the rate of a full pipeline, and price is the price per
    hour within --max-time-ms.

    \b
    Examples:
      raysplit plan examples/mpsl_simulate.yaml
      raysplit plan my.yaml --codecs auto
      raysplit plan --profile vgg19_mpsl_vm --units 3:21 --owners 150 --node 16GiB:1 --node 8GiB:2 --node 8GiB:2
    """
    from raysplit.cli.planning.front import show_front
    from raysplit.schedulers.cuts.leakage import limited
    from raysplit.schedulers.cuts.profiles import load_profile, own_units_ms
    from raysplit.schedulers.cuts.solve import CutProblem, FreeOwnerCuts, with_owner_time

    chosen = nodes_used or ("any" if front or objective == "price" else "all")
    rules: dict[str, Any] = {
        "objective": objective,
        "max_time_ms": max_time_ms,
        "memory_model": memory_model,
        "use_all_nodes": chosen == "all",
    }
    if codecs is not None:
        if config is None:
            raise click.UsageError("--codecs needs a CONFIG with a topology")
        from raysplit.cli.planning.codec_plan import show_codecs

        show_codecs(config, overrides, budget, as_json=as_json)
        return
    if owner_slowdown is not None and owner_memory is None:
        raise click.UsageError("--owner-slowdown is for --owner-memory, which leaves the owner's cuts free")
    if front and baselines:
        raise click.UsageError("--front shows many plans and --baselines compares one; give one of the two")
    if config is not None:
        if profile or units or owner_memory or owners or nodes or links or send_inputs:
            raise ValueError(
                "CONFIG already has the profile, units, owners and nodes, and the inputs that may be sent; change them "
                "with --set"
            )
        from raysplit.config.build import build_dry  # loads torch, which a plan of a profile does without
        from raysplit.config.run import load_config
        from raysplit.prediction.plan_cuts import cut_problem, owner_ms

        experiment = build_dry(load_config(config, overrides))
        free = replace(cut_problem(experiment), **rules)
        of_owner: Callable[[int, int], float] = partial(owner_ms, experiment, free)
    else:
        if not (profile and owners and nodes):
            raise ValueError("give a CONFIG with a topology, or --profile, --units, --owners and --node")
        free = CutProblem(
            profile=load_profile(expanded(profile)),
            owners=owners,
            nodes=parse_nodes(nodes, links),
            units=parse_units(units, owner_memory),
            batches_per_owner=batches,
            may_send_inputs=send_inputs,
            **rules,
        )

        def slowed_ms(first: int, end: int) -> float:
            return (owner_slowdown or 1.0) * own_units_ms(free.profile, first, end)

        of_owner = slowed_ms
    if max_leak is not None:
        free = limited(free, max_leak, leak_metric)
    counted = of_owner if isinstance(free.units, FreeOwnerCuts) else None
    if front:
        show_front(free, of_owner, leak_metric, picture=picture, as_json=as_json)
    else:
        problem = with_owner_time(free, of_owner)
        show_plan(problem, counted, solver=solver, baselines=baselines, picture=picture, as_json=as_json)
        if max_leak is not None and not as_json:
            echo("leakage was measured before training; check with raysplit leak RUN")


def show_plan(
    problem: CutProblem,
    owner_ms: Callable[[int, int], float] | None = None,
    *,
    solver: Solver | Literal["dp"],
    baselines: bool,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Solve `problem` with "cbc", "highs" or "dp" and print the plan; draw and compare it where asked.

    `owner_ms` is the owner's time per batch by its cuts, where it is counted.
    """
    from raysplit.schedulers.cuts.baselines import alternatives
    from raysplit.schedulers.cuts.solve import solve_dp, solve_ilp

    with Waiting(Console(stderr=True), "planning"):
        best = solve_dp(problem) if solver == "dp" else solve_ilp(problem, solver)
    if owner_ms is not None:
        best = replace(best, owner_ms=owner_ms(best.cuts[0], best.cuts[-1]))
    others = alternatives(problem, best) if baselines else ()
    if picture is not None:
        from raysplit.cli.pictures.plan import draw_plan

        draw_plan(problem, best, picture)
    if as_json:
        compared = {"baselines": [asdict(other) for other in others]} if baselines else {}
        echo(json.dumps(best.to_dict() | compared | {"length": problem.profile.length}))
    else:
        print_plan(best)
        if problem.profile.length is not None:
            echo(f"for samples of length {problem.profile.length}, as in the profile; those of the data differ")
        if others:
            print_table(Console(), comparison(best, others))
        print_figure(Console(), picture)
