"""Draw what attacks have got: reconstructions under the samples, and label accuracies over rounds beside chance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from raysplit.figure_style import COLORS, GREY, INK, quiet, save, titled
from raysplit.privacy.leak.outcome import NUM_SHOWN, Outcome

MOST_ROWS = 12
"""Attacks that are drawn; of more, those with the most to show."""


def draw_leak(outcomes: Sequence[Outcome], mean: Tensor, folder: Path) -> list[Path]:
    """Draw ``reconstructions.png`` and ``labels.png`` where there is something to draw, and return their paths.

    ``mean`` is the mean sample [...] of the attackers' own, the last row of the reconstructions.
    """
    drawn = []
    shown = [o for o in outcomes if o.shown is not None and o.shown.ndim == 4 and o.shown.shape[1] in (1, 3)]
    if shown:
        path = folder / "reconstructions.png"
        _reconstructions(shown[:MOST_ROWS], mean, path)
        drawn.append(path)
    labels = [o for o in outcomes if o.row["kind"] == "labels" and "label_accuracy" in o.row]
    if labels:
        path = folder / "labels.png"
        _labels(labels, path)
        drawn.append(path)
    return drawn


def _reconstructions(outcomes: Sequence[Outcome], mean: Tensor, path: Path) -> None:
    originals = max((o.original for o in outcomes if o.original is not None), key=len)
    rows: list[tuple[str, Tensor]] = [("original", originals)]
    rows += [(_caption(o), o.shown) for o in outcomes if o.shown is not None]
    rows.append(("chance:\nthe mean sample", mean.expand(len(originals), *mean.shape)))
    figure = Figure(figsize=(10.4, 0.78 * len(rows) + 0.5), layout="constrained")
    grid = figure.add_gridspec(len(rows), NUM_SHOWN + 4, wspace=0.05, hspace=0.08)
    for line, (caption, pictures) in enumerate(rows):
        text = figure.add_subplot(grid[line, :4])
        text.set_axis_off()
        text.text(1.0, 0.5, caption, ha="right", va="center", fontsize=8.5, color=INK, linespacing=1.35)
        for column in range(min(NUM_SHOWN, len(pictures))):
            axes = figure.add_subplot(grid[line, 4 + column])
            axes.set_axis_off()
            axes.imshow(_pixels(pictures[column]), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    titled(figure, "samples of the owner, and what attackers reconstruct")
    save(figure, path)


def _caption(outcome: Outcome) -> str:
    row = outcome.row
    where = "" if row["cut"] is None else f", cut {row['cut']}"
    batch = f" b={row['batch']}" if "batch" in row else ""
    figure = f"SSIM {row['ssim']:.2f} (chance {row['ssim_chance']:.2f})" if "ssim" in row else f"nmse {row['nmse']:.2f}"
    return f"{row['name']}{batch}, {row['knows']}{where}\n{figure}"


def _pixels(picture: Tensor) -> np.ndarray:
    values = picture.clamp(0, 1).numpy()
    return values[0] if len(values) == 1 else np.moveaxis(values, 0, -1)


def _labels(outcomes: Sequence[Outcome], path: Path) -> None:
    rounds = list(dict.fromkeys(str(o.row["round"]) for o in outcomes))
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    names = list(dict.fromkeys(o.row["name"] for o in outcomes))
    for number, name in enumerate(names):
        of_name = {str(o.row["round"]): o.row for o in outcomes if o.row["name"] == name}
        at = [i for i, round in enumerate(rounds) if round in of_name]
        values = [of_name[rounds[i]]["label_accuracy"] for i in at]
        axes.plot(at, values, marker="o", color=COLORS[number % len(COLORS)], label=name, clip_on=False)
    chance = max(o.row["label_accuracy_chance"] for o in outcomes)
    axes.axhline(chance, color=GREY, linestyle="--", linewidth=1)
    axes.text(0.995, chance + 0.015, "chance", color=GREY, fontsize=8, ha="right", transform=axes.get_yaxis_transform())
    axes.set_ylim(0, 1)
    axes.set_xlim(-0.3, max(len(rounds) - 1, 0) + 0.3)
    axes.set_xticks(range(len(rounds)), [f"round {r}" if r != "last" else "last weights" for r in rounds])
    axes.set_ylabel("labels guessed right")
    quiet(axes)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    titled(figure, "labels that stay with their owner, from its gradients")
    save(figure, path)
