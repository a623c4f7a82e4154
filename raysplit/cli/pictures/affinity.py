"""Heat map of a matrix of task pairs, with outlines around the groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from raysplit.figure_style import COLORS, GREY, INK, save, titled
from raysplit.schedulers.grouping.scores import Groups, PairLosses, TaskMatrix


def draw_matrix(matrix: TaskMatrix, groups: Groups, path: Path) -> None:
    """Draw `matrix` to the image file `path`, with tasks in the order of `groups` and one outline color per group."""
    order = list(dict.fromkeys(task for group in groups for task in group))
    numbers = [matrix.tasks.index(task) for task in order]
    values = np.array(matrix.values)[np.ix_(numbers, numbers)]
    alone = np.diag(values)[:, None]
    affinities = not isinstance(matrix, PairLosses)
    with np.errstate(divide="ignore", invalid="ignore"):
        colors = values.copy() if affinities else 1 - values / alone
    colors[~np.isfinite(colors)] = np.nan  # a loss of 0 has no share
    np.fill_diagonal(colors, np.nan)  # a task's affinity with itself is not used and often far larger than the rest
    largest = float(np.abs(np.nan_to_num(colors)).max()) or 1.0
    size = 1.6 + 0.85 * len(order)
    figure = Figure(figsize=(size + 1.2, size), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(np.ma.masked_invalid(colors), cmap="RdBu", vmin=-largest, vmax=largest)
    for (row, column), value in np.ndenumerate(values):
        dark = abs(colors[row, column]) > 0.6 * largest
        ink = GREY if affinities and row == column else "white" if dark else INK
        axes.text(
            column, row, "–" if np.isnan(value) else f"{value:.3g}", ha="center", va="center", fontsize=8, color=ink
        )
    for number, group in enumerate(groups):
        places = [order.index(task) for task in group]
        inset = 0.06 + 0.03 * number
        for row in places:
            for column in places:
                corner = (column - 0.5 + inset, row - 0.5 + inset)
                color = COLORS[number % len(COLORS)]
                side = 1 - 2 * inset
                axes.add_patch(_outline(corner, side, color))
    rows, columns = ("source", "recipient") if affinities else ("task", "trained with")
    axes.set(xticks=range(len(order)), yticks=range(len(order)), xticklabels=order, yticklabels=order)
    axes.set(xlabel=columns, ylabel=rows, title=None)
    axes.tick_params(colors=INK, length=0, labelsize=9)
    titled(figure, "  ".join("{" + ", ".join(group) + "}" for group in groups))
    figure.colorbar(picture, label="affinity" if affinities else "share of the loss saved against training alone")
    save(figure, path)


def _outline(corner: tuple[float, float], side: float, color: str) -> Rectangle:
    return Rectangle(corner, side, side, fill=False, edgecolor=color, linewidth=1.8)
