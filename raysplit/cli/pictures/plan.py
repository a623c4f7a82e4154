"""Figures of plans: units by party and times by node of one plan, or time against price of many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from raysplit.figure_style import COLORS, GREY, INK, quiet, save, titled
from raysplit.registry import number_of
from raysplit.schedulers.cuts.leakage import TradeOff
from raysplit.schedulers.cuts.plan import Plan
from raysplit.schedulers.cuts.problem import CutProblem
from raysplit.schedulers.cuts.profiles import BYTES_PER_GIB

_MOST_NAMED = 8
_OWNER, _FORWARD, _BACKWARD = GREY, COLORS[0], COLORS[1]


def draw_plan(problem: CutProblem, plan: Plan, path: Path) -> None:
    """Draw `plan` to the image file `path`: units by party on the left, times by node on the right."""
    num_units = len(problem.profile.units)
    parties = ["data owner", *plan.nodes]
    figure = Figure(figsize=(12, 1.8 + 0.55 * len(parties)), layout="constrained")
    where, when = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])

    def bar(row: int, start: int, end: int, color: str) -> None:
        where.barh(row, end - start, left=start, height=0.7, color=color, edgecolor="white")

    bar(0, 0, plan.cuts[0], _OWNER)
    bar(0, plan.cuts[-1], num_units, _OWNER)
    for row, share in enumerate(plan.shares, start=1):
        bar(row, share.first_unit, share.last_unit + 1, _FORWARD)
        memory = f"{share.memory_bytes / BYTES_PER_GIB:.1f} of {share.memory_limit_bytes / BYTES_PER_GIB:.1f} GiB"
        text = f"units {share.first_unit}-{share.last_unit}, {memory}"
        fits_right = share.last_unit < 0.6 * num_units
        edge = share.last_unit + 1.3 if fits_right else share.first_unit - 0.3
        where.text(edge, row, text, va="center", ha="left" if fits_right else "right", color=INK, fontsize=8)
    for cut in plan.cuts:
        where.axvline(cut, color=INK, linewidth=0.6, linestyle=":", zorder=0)
    where.set(
        xlim=(0, num_units), xlabel="unit", title="who runs what", yticks=range(len(parties)), yticklabels=parties
    )
    where.invert_yaxis()

    rows = range(1, len(parties))
    forward_ms = [share.forward_ms for share in plan.shares]
    when.barh(rows, forward_ms, height=0.7, color=_FORWARD, label="forward")
    backward_ms = [share.backward_ms for share in plan.shares]
    when.barh(rows, backward_ms, left=forward_ms, height=0.7, color=_BACKWARD, label="backward and update")
    when.axvline(plan.l_fwd_ms + plan.l_bwd_ms, color=INK, linewidth=1, label="L_fwd + L_back")
    when.set(xlabel="ms per batch", title="how long")
    when.legend(loc="upper left", fontsize=8, frameon=False)
    for axes in (where, when):
        quiet(axes)
    titled(
        figure,
        f"{plan.model} for {number_of(plan.owners, 'owner')}: {plan.objective_ms:.1f} ms per batch, "
        f"round {plan.round_ms / 60_000:.1f} min",
    )
    save(figure, path)


def draw_front(problem: CutProblem, found: Sequence[TradeOff], path: Path) -> None:
    """Draw trade-offs to the image file `path`: time against price, and the owner's bytes as shades."""
    figure = Figure(figsize=(7.5, 4.3), layout="constrained")
    axes = figure.subplots()
    plans = [one.plan for one in found]
    prices, times = [plan.price_per_hour for plan in plans], [plan.round_ms / 60_000 for plan in plans]
    sizes = [one.num_bytes / 2**20 for one in found]
    if len(set(sizes)) > 1:
        shades = axes.scatter(prices, times, c=sizes, cmap="viridis_r", s=36, zorder=2)
        figure.colorbar(shades, ax=axes, label="MiB of an owner per batch")
    else:
        axes.step(prices, times, where="post", color=COLORS[0], linewidth=1, linestyle=":")
        axes.plot(prices, times, "o", color=COLORS[0], markersize=6)
    for plan in plans if len(plans) <= _MOST_NAMED else ():
        axes.annotate(
            ", ".join(plan.nodes), (plan.price_per_hour, plan.round_ms / 60_000), (6, 4), textcoords="offset points",
            fontsize=8, color=INK,
        )  # fmt: skip
    axes.set(xlabel="price per hour", ylabel="minutes of a round")
    axes.margins(x=0.2, y=0.15)
    quiet(axes)
    titled(figure, f"{problem.profile.model} for {number_of(problem.owners, 'owner')}: time against price")
    save(figure, path)
