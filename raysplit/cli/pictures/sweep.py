"""Figure of a sweep: the last accuracy, or loss, of every combination, and its course in steps and in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, FuncFormatter, MaxNLocator, PercentFormatter

from raysplit.algorithms import ALGORITHMS
from raysplit.figure_style import COLORS, DASHES, GREY, INK, quiet, save, titled
from raysplit.runs.metric import Metric
from raysplit.sweeps.report import METHOD, Group, common_metric, value_text

_MIB = 2**20
_MAX_FACETS = 4
_MAX_MARKED = 30  # evaluations
_MAJORITY = "majority label"


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """The setting that makes the columns, if there are two settings or more, the lines of each column, and the metric.

    ``mixed`` says whether some runs are tested on everybody's samples and others on each owner's own.
    """

    facet_key: str | None
    facets: list[Any]
    series: list[str]
    metric: Metric
    mixed: bool

    def facet_of(self, group: Group) -> Any:
        return group.values[self.facet_key] if self.facet_key else None

    def series_of(self, group: Group) -> str:
        return _series(group, self.facet_key, self.mixed)

    @property
    def unit(self) -> Formatter:
        """The format of values of the metric."""
        if self.metric.is_rate:
            return PercentFormatter(1, decimals=None)
        return FuncFormatter(lambda value, _: f"{value:g}")


def draw_sweep(groups: Sequence[Group], path: Path, *, title: str, target: float | None = None) -> None:
    """Draw groups to the image file ``path``, whose extension is the format; groups without a run are left out."""
    shown = [group for group in groups if group.runs]
    layout = _layout(shown)
    facets = _spread(layout.facets, _MAX_FACETS)
    with_summary = len(layout.facets) > 1
    widths = [1.5] * with_summary + [1.0] * len(facets)
    sends = any(row["bytes_total"] for group in shown for run in group.runs for row in run)
    measures = ("steps_total", "bytes_total") if sends else ("steps_total",)  # no panel without a curve
    figure = Figure(figsize=(2.4 + 2.9 * sum(widths), 1.2 + 2.5 * len(measures)), layout="constrained")
    grid = figure.add_gridspec(len(measures), len(widths), width_ratios=widths)
    if with_summary:
        _summary(figure.add_subplot(grid[:, 0]), shown, layout)
    first: list[Axes | None] = [None, None]
    ends = [spread.mean for group in shown if (spread := group.last(layout.metric.column))]
    for column, facet in enumerate(facets, start=int(with_summary)):
        here = [group for group in shown if layout.facet_of(group) == facet]
        for row, measure in enumerate(measures):
            axes = figure.add_subplot(grid[row, column], sharey=first[0], sharex=first[row])
            _curves(axes, here, layout, measure, target)
            if layout.metric.is_rate:
                axes.set_ylim(max(0.0, min(ends) - 0.25), 1.01)
            if first[row] is None:
                first[row] = axes
                axes.set_ylabel(f"test {layout.metric.name}", color=INK)
            else:
                axes.tick_params(labelleft=False)
            if row == 0 and layout.facet_key:
                axes.set_title(f"{_short(layout.facet_key)} {value_text(facet)}", fontsize=10, color=INK)
    by_label = dict(zip(*reversed(figure.axes[0].get_legend_handles_labels()), strict=True))
    labels = sorted(by_label, key=lambda label: label == _MAJORITY)  # the baseline comes last
    handles = [by_label[label] for label in labels]
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)), frameon=False)
    titled(figure, title)
    save(figure, path)


def _layout(groups: Sequence[Group]) -> _Layout:
    keys = list(groups[0].values)
    others = [key for key in keys if key != METHOD] if len(keys) > 1 else []
    numeric = [key for key in others if all(isinstance(group.values[key], int | float) for group in groups)]
    facet_key = next(iter([*numeric, *others]), None)
    facets = list({repr(g.values[facet_key]): g.values[facet_key] for g in groups}.values()) if facet_key else [None]
    mixed = len({group.tested_on for group in groups}) > 1
    series = list(dict.fromkeys(_series(group, facet_key, mixed) for group in groups))
    return _Layout(facet_key=facet_key, facets=facets, series=series, metric=common_metric(groups), mixed=mixed)


def _series(group: Group, facet_key: str | None, mixed: bool) -> str:
    names = []
    for key, value in group.values.items():
        if key == METHOD:
            names.append(ALGORITHMS[value].title if value in ALGORITHMS else value)
        elif key != facet_key:
            names.append(f"{_short(key)} {value_text(value)}")
    own = " (own samples)" if mixed and group.tested_on == "own" else ""
    return (", ".join(names) or "all runs") + own


def _short(key: str) -> str:
    return key.removesuffix(".name").rpartition(".")[2]


def _spread(values: list[Any], count: int) -> list[Any]:
    """Return at most ``count`` of the values, evenly spread, with the first and the last."""
    if len(values) <= count:
        return values
    return [values[i] for i in np.linspace(0, len(values) - 1, count).round().astype(int)]


def _style(layout: _Layout, group: Group) -> dict[str, Any]:
    index = layout.series.index(layout.series_of(group))
    return {
        "color": COLORS[index % len(COLORS)],
        "linestyle": DASHES[index // len(COLORS) % len(DASHES)],
        "label": layout.series[index],
    }


def _summary(axes: Axes, groups: Sequence[Group], layout: _Layout) -> None:
    """Draw the last value by facet, evenly spaced, with the standard deviation over seeds."""
    facets = layout.facets
    for name in layout.series:
        line = [group for group in groups if layout.series_of(group) == name]
        at = [facets.index(layout.facet_of(group)) for group in line]
        spreads = [group.last(layout.metric.column) for group in line]
        style = _style(layout, line[0])
        axes.errorbar(
            at,
            [spread.mean for spread in spreads if spread],
            [spread.sd for spread in spreads if spread],
            linewidth=2,
            marker="o",
            markersize=5,
            capsize=3,
            **style,
        )
    majority = {facets.index(layout.facet_of(g)): g.majority for g in groups}
    known = sorted((at, spread.mean) for at, spread in majority.items() if spread)
    if known:
        style = {"color": GREY, "linestyle": (0, (4, 3)), "linewidth": 1.4, "zorder": 1}
        axes.plot([at for at, _ in known], [mean for _, mean in known], label=_MAJORITY, **style)
    ends = [spread.mean for group in groups if (spread := group.last(layout.metric.column))]
    room = 0.06 * (max(ends) - min(ends)) + 0.005
    axes.set_ylim(min(ends) - room, max(ends) + room)  # the axis fits the methods, not the baseline
    axes.set_xticks(range(len(facets)), [value_text(value) for value in facets])
    axes.set_xlabel(_short(layout.facet_key or ""), color=INK)
    axes.set_ylabel(f"test {layout.metric.name} at the end", color=INK)
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(layout.unit)
    quiet(axes)


def _curves(axes: Axes, groups: Sequence[Group], layout: _Layout, measure: str, target: float | None) -> None:
    """Draw accuracy or loss against steps or bytes: the mean over seeds, in a band of one standard deviation."""
    column = layout.metric.column
    for group in groups:
        evaluated = [[row for row in run if column in row] for run in group.runs]
        length = min(len(run) for run in evaluated)
        values = np.array([[row[column] for row in run[:length]] for run in evaluated])  # [seeds, rounds]
        along = np.array([[row[measure] for row in run[:length]] for run in evaluated], float).mean(0)
        style = _style(layout, group)
        if measure == "bytes_total":
            along = along / _MIB
        if not along.any():  # sends nothing
            axes.axhline(values[:, -1].mean(), **style | {"linestyle": ":", "linewidth": 1.5})
            continue
        mean = values.mean(0)
        marker = "o" if length <= _MAX_MARKED else None  # a single evaluation makes no line
        axes.plot(along, mean, linewidth=1.8, marker=marker, markersize=3.5, **style)
        if len(values) > 1:
            sd = values.std(0, ddof=1)
            axes.fill_between(along, mean - sd, mean + sd, color=style["color"], alpha=0.15, linewidth=0)
    majority = [spread.mean for group in groups if (spread := group.majority)]
    if majority:
        axes.axhline(majority[0], color=GREY, linestyle=(0, (4, 3)), linewidth=1.2, zorder=1)
    if target is not None:
        axes.axhline(target, color=INK, linewidth=0.8, linestyle=(0, (1, 3)), zorder=1)
    if measure == "bytes_total":
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("tensors sent, MiB", color=INK)
    else:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.set_xlabel("steps of an owner", color=INK)
    axes.yaxis.set_major_formatter(layout.unit)
    quiet(axes)
