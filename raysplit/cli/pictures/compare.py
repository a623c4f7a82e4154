"""Figure of runs: their primary metric against rounds, bytes sent and training time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from raysplit.figure_style import COLORS, DASHES, INK, quiet, save, titled
from raysplit.runs.report import Point, RunReport, common_metric

_LOG_FROM = 25  # from this ratio of bytes on, a linear axis would press the smaller run to the edge
_BYTES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_SECONDS = ((3600, "h"), (60, "min"))


def draw_runs(runs: Sequence[RunReport], path: Path, *, title: str, target: float | None = None) -> None:
    """Draw runs in three panels to the image file ``path``, whose extension is the format.

    The panels show the metric that all runs have. Where that is the loss, they are without the target.
    """
    metric = common_metric(runs)
    shown = metric.name
    figure = Figure(figsize=(12, 4.3), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    num_bytes = [run.num_bytes for run in runs]
    byte, byte_unit = _unit(max(num_bytes), _BYTES, "bytes")
    second, second_unit = _unit(max(run.seconds for run in runs), _SECONDS, "s")
    _panel(panels[0], runs, shown, lambda point: point.round, "rounds")
    _panel(panels[1], runs, shown, lambda point: point.num_bytes / byte, f"tensors sent, {byte_unit}")
    _panel(panels[2], runs, shown, lambda point: point.seconds / second, f"training time, {second_unit}")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylabel(f"test {shown}")
    if metric.is_rate:
        panels[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        highest = max([run.best or 0 for run in runs] + [target or 0])
        panels[0].set_ylim(0, 1.02 if highest > 0.6 else 1.05 * highest or None)  # a target above all runs is in sight
    for axes in panels:
        axes.set_xlim(left=0)
    if min(num_bytes) > 0 and max(num_bytes) > _LOG_FROM * min(num_bytes):
        panels[1].set_xscale("log")
    if target is not None and shown != "loss":
        wanted = f"{target:.0%}" if metric.is_rate else f"{target:g}"
        for axes in panels:
            axes.axhline(target, color=INK, linewidth=0.8, linestyle=(0, (1, 3)), zorder=1)
        panels[0].annotate(
            f"target {wanted}", (0, target), (3, 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", fontsize=8, color=INK,
        )  # fmt: skip
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(runs)), frameon=False)
    titled(figure, title)
    save(figure, path)


def _panel(axes: Axes, runs: Sequence[RunReport], shown: str, along: Callable[[Point], float], label: str) -> None:
    mixed = len({run.tested_on for run in runs}) > 1
    for index, run in enumerate(runs):
        points = [(along(point), value) for point in run.curve if (value := run.at(point, shown)) is not None]
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=COLORS[index % len(COLORS)],
            linestyle=DASHES[index // len(COLORS) % len(DASHES)],
            linewidth=2,
            marker="o" if len(points) <= 30 else None,
            markersize=3.5,
            label=f"{run.label} (own samples)" if run.tested_on == "own" and mixed else run.label,
        )
    axes.set_xlabel(label, color=INK)
    quiet(axes)


def _unit(largest: float, units: Sequence[tuple[int, str]], smallest: str) -> tuple[int, str]:
    # the unit in which the largest value is still at least 2
    return next(((size, name) for size, name in units if largest >= 2 * size), (1, smallest))
