"""The common style of all figures: colors, lines, axes and the files that they are written to."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, readable with every kind of color vision; without yellow, which is lost on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", "-.", ":")
INK, FAINT, GREY = "#333333", "#d9dce1", "#8a8f98"
_DPI = 130


def quiet(axes: Axes) -> None:
    """Draw a faint grid behind the data and no frame."""
    axes.grid(color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, length=0, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.title.set(fontsize=10, color=INK)


def titled(figure: Figure, title: str) -> None:
    """Put a title above the figure."""
    figure.suptitle(title, fontsize=11, color=INK)


def save(figure: Figure, path: Path) -> None:
    """Write the figure; the extension of the file is its format, and missing folders are made.

    Raises:
        ValueError: matplotlib does not know the format.
    """
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in formats:
        raise ValueError(
            f"{path} does not end in a format of figures; use .png, .pdf or .svg (all: {', '.join(sorted(formats))})"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)
