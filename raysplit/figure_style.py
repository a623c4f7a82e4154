"""The common style of all figures: colors, lines, axes and the files that they are written to."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, Formatter, FuncFormatter

from raysplit.registry import printable

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
    _take_names_as_they_are(figure)
    figure.savefig(path, dpi=_DPI)


def _take_names_as_they_are(figure: Figure) -> None:
    """Let matplotlib read no formulas in names of users; numbers of a logarithmic axis are formulas of its own.

    Characters that cannot be seen are written by their numbers; in an SVG they would be no XML.
    """
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(printable(text.get_text()))
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        named = axis.get_major_formatter()
        is_named = isinstance(named, FixedFormatter | FuncFormatter)
        if is_named:
            axis.set_major_formatter(FuncFormatter(partial(_printed, named)))
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            tick.label1.set_parse_math(not is_named)


def _printed(formatter: Formatter, value: float, position: int | None) -> str:
    return printable(formatter(value, position))
