"""Figure of a paper's claims: differences with their intervals, and curves over rounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raysplit.claims.claim import Condition
from raysplit.claims.protocol import ARM, SEED, Curves, Protocol
from raysplit.claims.records import Record
from raysplit.claims.verdict import Verdict
from raysplit.figure_style import COLORS, DASHES, GREY, INK, quiet, save

_DECIDED = {"shown": COLORS[2], "refuted": COLORS[1]}
_UNITS = {"points": "points", "percent": "%", "plain": ""}


def draw_claims(protocol: Protocol, found: Sequence[Verdict], records: Sequence[Record], path: Path) -> bool:
    """Draw what the records say of the claims; return whether there was anything to draw."""
    measured = [v for v in found if any(line.found is not None for line in v.lines)]
    if not measured:
        return False
    curves = protocol.curves
    panels = [
        condition
        for condition in (curves.where if curves else ())
        if curves and any(_runs(protocol, curves, condition, arm, records) for arm in curves.arms)
    ]
    num_lines = sum(line.found is not None for v in measured for line in v.lines)
    figure = Figure(figsize=(10, 1.2 + 0.32 * num_lines + (3.4 if panels else 0)), layout="constrained")
    columns = max(1, len(panels))
    heights = [*([3.4] if panels else []), 0.8 + 0.32 * num_lines]
    layout = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    if curves and panels:
        drawn: list[Axes] = []
        for number, condition in enumerate(panels):
            drawn.append(figure.add_subplot(layout[0, number], sharey=drawn[0] if drawn else None))
            _draw_curves(drawn[-1], protocol, curves, condition, records)
        drawn[0].set_ylabel(curves.label)
        max(drawn, key=lambda ax: len(ax.lines)).legend(fontsize=8, frameon=False, labelcolor=INK)
    _draw_intervals(figure.add_subplot(layout[-1, :]), measured)
    save(figure, path)
    return True


def _runs(
    protocol: Protocol, curves: Curves, condition: Condition, arm: str, records: Sequence[Record]
) -> list[Sequence[float | None]]:
    """Return the curve of each seed of an arm."""
    wanted = {k: v for k, v in condition.set.items() if k not in protocol.arms[arm].ignores} | {ARM: arm}
    return [
        record.columns[curves.column]
        for record in records
        if {k: v for k, v in record.values.items() if k != SEED} == wanted and not record.failed
    ]


def _draw_curves(ax: Axes, protocol: Protocol, curves: Curves, condition: Condition, records: Sequence[Record]) -> None:
    """Draw the mean over the seeds, and the range of the seeds behind it."""
    for number, arm in enumerate(curves.arms):
        runs = _runs(protocol, curves, condition, arm, records)
        by_round = [[v for v in values if v is not None] for values in zip(*runs, strict=False)]
        points = [(index + 1, values) for index, values in enumerate(by_round) if values]
        if not points:
            continue
        rounds, values = zip(*points, strict=True)
        color = COLORS[number % len(COLORS)]
        title = f"{protocol.arms[arm].title} ({len(runs)})"
        ax.plot(rounds, [fmean(v) for v in values], color=color, ls=DASHES[number % len(DASHES)], label=title)
        ax.fill_between(rounds, [min(v) for v in values], [max(v) for v in values], color=color, alpha=0.15, lw=0)
    ax.set_title(condition.label)
    ax.set_xlabel("round")
    quiet(ax)


def _draw_intervals(ax: Axes, measured: Sequence[Verdict]) -> None:
    names, place = [], 0
    for verdict in measured:
        for line in verdict.lines:
            if line.found is None:
                continue
            label = ", ".join(filter(None, (verdict.claim.name, line.label)))
            names.append(f"{label} ({_UNITS[verdict.claim.unit]})" if verdict.claim.unit != "plain" else label)
            color = _DECIDED.get(line.decision, GREY)
            ax.errorbar(line.found.mean, -place, xerr=line.found.half, fmt="o", ms=5, color=color, capsize=3)
            place += 1
    ax.axvline(0, color=GREY, lw=1)
    ax.set_yticks([-number for number in range(place)], names)
    ax.set_xlabel("difference with its 95 % interval; green: shown, red: refuted, grey: not decided")
    quiet(ax)
