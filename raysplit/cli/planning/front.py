"""The trade-offs of a plan: time, price, and what leaves an owner tells, where the profile says it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from raysplit.cli.planning.plan_tables import front_table
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import print_figure, print_table
from raysplit.cli.waiting import Waiting

if TYPE_CHECKING:  # help must not wait for torch, matplotlib and the solvers
    from raysplit.schedulers.cuts.leakage import LeakMetric
    from raysplit.schedulers.cuts.plan import Plan
    from raysplit.schedulers.cuts.solve import CutProblem


def show_front(
    free: CutProblem,
    owner_ms: Callable[[int, int], float],
    metric: LeakMetric,
    *,
    as_json: bool,
    picture: Path | None = None,
) -> None:
    """Print all trade-offs, the fastest first, and draw them where asked.

    `free` is the problem before the owner's cuts are fixed, `owner_ms` the owner's time per batch by its cuts.
    """
    from raysplit.schedulers.cuts.leakage import first_cuts, front_with_leak, leak_at
    from raysplit.schedulers.cuts.solve import pareto_front, with_owner_time

    fixed = partial(with_owner_time, owner_ms=owner_ms)
    pairs: list[tuple[Plan, float | None]] = []
    with Waiting(Console(stderr=True), "planning"):
        if any(leak_at(free, cut, metric) is not None for cut in first_cuts(free)):
            pairs += front_with_leak(free, metric, fixed)
        else:
            pairs += [(plan, None) for plan in pareto_front(fixed(free))]
    plans = [plan for plan, _ in pairs]
    if picture is not None:
        from raysplit.cli.pictures.plan import draw_front

        draw_front(free, plans, picture)
    if as_json:
        leaks = [{} if leak is None else {metric: leak} for _, leak in pairs]
        echo(json.dumps({"front": [plan.to_dict() | leak for plan, leak in zip(plans, leaks, strict=True)]}))
        return
    print_table(Console(), front_table(free, pairs))
    print_figure(Console(), picture)
