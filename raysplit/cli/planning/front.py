"""The trade-offs of a plan: time, price, the owner's bytes, and what they tell, where the profile says it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from raysplit.cli.planning.plan_tables import front_table
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import print_figure, print_table
from raysplit.cli.waiting import Waiting

if TYPE_CHECKING:  # help must not wait for torch, matplotlib and the solvers
    from raysplit.schedulers.cuts.leakage import LeakMetric
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
    from raysplit.schedulers.cuts.leakage import trade_offs
    from raysplit.schedulers.cuts.problem import FreeOwnerCuts

    with Waiting(Console(stderr=True), "planning"):
        found = trade_offs(free, metric, owner_ms if isinstance(free.units, FreeOwnerCuts) else None)
    if picture is not None:
        from raysplit.cli.pictures.plan import draw_front

        draw_front(free, found, picture)
    if as_json:
        rows = [one.plan.to_dict() | {"owner_bytes_per_batch": one.num_bytes, metric: one.leak} for one in found]
        echo(json.dumps({"front": rows}))
        return
    print_table(Console(), front_table(free, found))
    print_figure(Console(), picture)
