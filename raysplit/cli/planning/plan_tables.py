"""The tables of `raysplit plan`: a plan, its comparison with other ways, and the trade-offs of time and price."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from raysplit.cli.streams import Console
from raysplit.cli.tables import print_table
from raysplit.registry import number_of

if TYPE_CHECKING:  # help must not wait for torch, matplotlib and the solvers
    from raysplit.schedulers.cuts.baselines import Alternative
    from raysplit.schedulers.cuts.leakage import TradeOff
    from raysplit.schedulers.cuts.plan import Plan
    from raysplit.schedulers.cuts.solve import CutProblem


def comparison(best: Plan, others: Sequence[Alternative]) -> Table:
    """Return the table of a plan beside other ways to train the same owners."""
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


def front_table(problem: CutProblem, found: Sequence[TradeOff]) -> Table:
    """Return the table of plans that trade time for price, the owner's bytes, and leakage where that is known."""
    has_leaks = any(one.leak is not None for one in found)
    against = "price, bytes and leakage" if has_leaks else "price and bytes"
    table = Table(title=f"{problem.profile.model} for {number_of(problem.owners, 'owner')}: time against {against}")
    columns = ("ms per batch", "round min", "price per hour", "price per round", "MiB per batch")
    for column in (*columns, *(["leak"] if has_leaks else [])):
        table.add_column(column, justify="right")
    table.add_column("nodes and units")
    for one in found:
        plan = one.plan
        leak = "unknown" if one.leak is None else f"{one.leak:.3f}"
        table.add_row(
            f"{plan.objective_ms:.2f}",
            f"{plan.round_ms / 60_000:.2f}",
            f"{plan.price_per_hour:.4g}",
            f"{plan.price_per_round:.4g}",
            f"{one.num_bytes / 2**20:.4g}",
            *([leak] if has_leaks else []),
            ", ".join(f"{share.node} {share.first_unit}-{share.last_unit}" for share in plan.shares),
        )
    return table


def print_plan(best: Plan) -> None:
    """Print a plan: its nodes, and what a batch and a round take."""
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
