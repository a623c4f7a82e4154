"""Figure of a timeline: the work of every device over time, and its use over the whole run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from raysplit.figure_style import COLORS, GREY, INK, quiet, save
from raysplit.prediction.timeline import Timeline

_COLORS = {"forward": COLORS[0], "loss": COLORS[5], "backward": COLORS[1], "update": GREY, "transfer": COLORS[4]}
_MAX_ROWS = 24


def draw_timeline(
    timeline: Timeline, path: Path | str, *, title: str, window_s: tuple[float, float] | None = None
) -> None:
    """Draw devices over time on the left and their use on the right.

    Args:
        timeline: the events.
        path: the image file to write.
        title: the title of the figure.
        window_s: the start and end of the time to show; None takes the first batches.
    """
    uses = timeline.uses()
    shown = uses[:_MAX_ROWS]
    low, high = window_s or _first_batches(timeline)
    figure = Figure(figsize=(13, 1.9 + 0.36 * len(shown)), layout="constrained")
    chart, bars = figure.subplots(1, 2, width_ratios=(5, 1), sharey=True)
    _draw_events(chart, timeline, [use.device for use in shown], low, high)
    hidden = f", {len(shown)} of {len(uses)} devices" if len(shown) < len(uses) else ""
    chart.set_title(f"{title}\n{low:.4g} s to {high:.4g} s of {timeline.span_s:.4g} s{hidden}", loc="left", fontsize=10)
    for row, use in enumerate(shown):
        bars.barh(row, use.utilisation, height=0.62, color=COLORS[0] if use.utilisation < 0.9 else COLORS[1])
        inside = use.utilisation > 0.7
        bars.text(
            use.utilisation + (-0.03 if inside else 0.03),
            row,
            f"{use.utilisation:.0%}",
            va="center",
            ha="right" if inside else "left",
            color="white" if inside else INK,
            fontsize=8,
        )
    bars.set_xlim(0, 1)
    bars.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    bars.set_title("at work, whole run", loc="left", fontsize=10)
    for axes in (chart, bars):
        quiet(axes)
        axes.yaxis.grid(visible=False)
    save(figure, Path(path))


def _draw_events(chart: Axes, timeline: Timeline, devices: list[str], low: float, high: float) -> None:
    inside = (timeline.columns["end_s"] > low) & (timeline.columns["start_s"] < high)
    visible = timeline.where(inside)
    row_of = {device: row for row, device in enumerate(devices)}
    parties, names, kinds = (visible.column(name) for name in ("party", "device", "kind"))
    place_of = dict(zip(parties, names, strict=True)) | {device: device for device in devices}
    spans: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for party, device, kind, start, end in zip(
        parties, names, kinds, visible.columns["start_s"], visible.columns["end_s"], strict=True
    ):
        row = row_of.get(place_of.get(party, party) if kind == "transfer" else device)
        if row is not None and end > start:
            spans.setdefault((row, kind), []).append((float(start), float(end - start)))
    narrow = 0.004 * (high - low)  # drawn with an edge of its own color, so that it stays visible
    for (row, kind), bars in spans.items():
        moved, color = kind == "transfer", _COLORS.get(kind, COLORS[2])
        extent = (row + 0.33, 0.12) if moved else (row - 0.36, 0.62)
        for edge, group in (
            (color, [bar for bar in bars if bar[1] <= narrow]),
            ("white", [bar for bar in bars if bar[1] > narrow]),
        ):
            chart.broken_barh(
                group, extent, facecolors=color, edgecolor="none" if moved else edge, linewidth=0.5, zorder=2
            )
    chart.set_xlim(low, high)
    chart.set_ylim(len(devices) - 0.4, -0.6)
    chart.set_yticks(range(len(devices)), devices)
    chart.set_xlabel("seconds", fontsize=9)
    present = [kind for kind in _COLORS if any(kind == k for _, k in spans)]
    labels = {"transfer": "receiving", "loss": "last part and loss"}
    chart.legend(
        [Patch(color=_COLORS[kind]) for kind in present],
        [labels.get(kind, kind) for kind in present],
        ncols=len(present),
        loc="upper left",
        bbox_to_anchor=(0, -0.9 / len(devices) if len(devices) > 8 else -0.22),
        frameon=False,
        fontsize=8,
    )


def _first_batches(timeline: Timeline) -> tuple[float, float]:
    # from the start until the median owner has finished its third batch, or all of a short run
    work = timeline.work
    start, end = float(timeline.columns["start_s"].min()), float(timeline.columns["end_s"].max())
    rounds = work.columns["round"]
    third = work.columns["end_s"][(work.columns["step"] == 2) & (rounds == rounds.min(initial=0))]
    return start, min(end, float(np.median(third))) if len(third) else end
