"""`raysplit plan`: choose cuts and compute nodes for a model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from raysplit.cli.options import FilePath, NewFile
from raysplit.cli.planning.quantities import parse_nodes, parse_units
from raysplit.cli.streams import Console, doing, echo
from raysplit.cli.tables import print_figure, print_table
from raysplit.paths import expanded
from raysplit.registry import number_of

if TYPE_CHECKING:  # help must not wait for torch, matplotlib and the solvers
    from raysplit.schedulers.cuts.baselines import Alternative
    from raysplit.schedulers.cuts.plan import Plan
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
@click.option("--front", is_flag=True, help="Show all trade-offs of time and price.")
@click.option("--baselines", is_flag=True, help="Compare with a manual split, one node and copies.")
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
    solver: str,
    send_inputs: bool,
    front: bool,
    baselines: bool,
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
    from raysplit.config.build import build_dry
    from raysplit.config.run import load_config
    from raysplit.prediction.plan_cuts import cut_problem, own_units_ms, owner_ms
    from raysplit.schedulers.cuts.profiles import load_profile
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
    problem = with_owner_time(free, of_owner)
    counted = of_owner if isinstance(free.units, FreeOwnerCuts) else None
    if front:
        show_front(problem, picture=picture, as_json=as_json)
    else:
        show_plan(problem, counted, solver=solver, baselines=baselines, picture=picture, as_json=as_json)


def show_plan(
    problem: CutProblem,
    owner_ms: Callable[[int, int], float] | None = None,
    *,
    solver: str,
    baselines: bool,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Solve `problem` with "cbc", "highs" or "dp" and print the plan; draw and compare it where asked. By its cuts,
    `owner_ms` gives the owner's time per batch, where it is counted."""
    from raysplit.schedulers.cuts.baselines import alternatives
    from raysplit.schedulers.cuts.solve import solve_dp, solve_ilp

    with doing("planning the cuts"):
        best = solve_dp(problem) if solver == "dp" else solve_ilp(problem, solver)  # type: ignore[arg-type]
    if owner_ms is not None:
        best = replace(best, owner_ms=owner_ms(best.cuts[0], best.cuts[-1]))
    others = alternatives(problem, best) if baselines else ()
    if picture is not None:
        from raysplit.cli.pictures.plan import draw_plan

        draw_plan(problem, best, picture)
    if as_json:
        compared = {"baselines": [asdict(other) for other in others]} if baselines else {}
        echo(json.dumps(best.to_dict() | compared))
    else:
        _print_plan(best)
        if others:
            print_table(Console(), _comparison(best, others))
        print_figure(Console(), picture)


def _comparison(best: Plan, others: Sequence[Alternative]) -> Table:
    table = Table(title="the plan and other ways to train these owners")
    for column in ("way", "round min", "the plan saves", "how"):
        table.add_column(column, justify="right" if column in ("round min", "the plan saves") else "left")
    table.add_row("this plan", f"{best.round_ms / 60_000:.2f}", "", f"cuts {list(best.cuts)}")
    for other in others:
        if other.round_ms is None:
            table.add_row(other.name, "impossible", "", other.note)
        else:
            saved = 1 - best.round_ms / other.round_ms
            table.add_row(other.name, f"{other.round_ms / 60_000:.2f}", f"{saved:.1%}", other.note)
    return table


def show_front(problem: CutProblem, *, as_json: bool, picture: Path | None = None) -> list[Plan]:
    """Print all trade-offs of time and price, draw them where asked, and return their plans, the fastest first."""
    from raysplit.schedulers.cuts.solve import pareto_front

    plans = pareto_front(problem)
    if picture is not None:
        from raysplit.cli.pictures.plan import draw_front

        draw_front(problem, plans, picture)
    if as_json:
        echo(json.dumps({"front": [plan.to_dict() for plan in plans]}))
        return plans
    table = Table(title=f"{problem.profile.model} for {number_of(problem.owners, 'owner')}: time against price")
    for column in ("ms per batch", "round min", "price per hour", "price per round"):
        table.add_column(column, justify="right")
    table.add_column("nodes and units")
    for plan in plans:
        table.add_row(
            f"{plan.objective_ms:.2f}",
            f"{plan.round_ms / 60_000:.2f}",
            f"{plan.price_per_hour:.4g}",
            f"{plan.price_per_round:.4g}",
            ", ".join(f"{share.node} {share.first_unit}-{share.last_unit}" for share in plan.shares),
        )
    print_table(Console(), table)
    print_figure(Console(), picture)
    return plans


def _print_plan(best: Plan) -> None:
    from raysplit.schedulers.cuts.profiles import BYTES_PER_GIB

    table = Table(title=f"{best.model} for {number_of(best.owners, 'owner')}, cuts {list(best.cuts)}")
    for column in ("node", "kind", "units"):
        table.add_column(column)
    for column in ("forward ms", "backward ms", "memory GiB", "of GiB", "price/h"):
        table.add_column(column, justify="right")
    for share in best.shares:
        table.add_row(
            share.node,
            share.kind,
            f"{share.first_unit}-{share.last_unit}",
            f"{share.forward_ms:.2f}",
            f"{share.backward_ms:.2f}",
            f"{share.memory_bytes / BYTES_PER_GIB:.2f}",
            f"{share.memory_limit_bytes / BYTES_PER_GIB:.2f}",
            f"{share.price_per_hour:.4g}",
        )
    console = Console()
    print_table(console, table)
    sum_ms = best.l_fwd_ms + best.l_bwd_ms
    console.print(
        f"L_fwd {best.l_fwd_ms:.2f} + L_back {best.l_bwd_ms:.2f} = {sum_ms:.2f} ms per batch; "
        f"busiest node {best.bottleneck_ms:.2f} ms",
        soft_wrap=True,
    )
    takes = f" and takes {best.owner_ms:.2f} ms per batch" if best.owner_ms else ""
    console.print(f"each owner holds {best.owner_bytes / BYTES_PER_GIB:.2f} GiB{takes}", soft_wrap=True)
    console.print(
        f"a round of {best.batches_per_owner} batches per owner takes {best.round_ms / 60_000:.2f} min and costs "
        f"{best.price_per_round:.4g} ({best.price_per_hour:.4g} per hour)",
        soft_wrap=True,
    )
    if best.unused:
        console.print(f"unused: {', '.join(best.unused)}", soft_wrap=True)
