"""Line charts as numbers: where lines, ticks and labels are, in the units of an SVG. The template draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 420, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 38
_MOST_POINTS = 400  # of a line; a page with 10,000 rounds stays small
_TICKS = 5


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line: its name, and its points (x, y) in order."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A tick: where it is along its axis, and its text."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A drawn line: the points of an SVG polyline, the last of them, and whether it is a single point."""

    name: str
    number: int
    points: str
    end: tuple[float, float]
    is_point: bool


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawn chart.

    Attributes:
        title: what it shows, which a screen reader reads.
        x_label: what the horizontal axis counts.
        lines: the lines, in the order of the series.
        x_ticks, y_ticks: the ticks.
        level: the height of a horizontal line, and its text; None without one.
    """

    title: str
    x_label: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    level: Tick | None = None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    is_rate: bool = False,
    level: tuple[float, str] | None = None,
) -> Chart | None:
    """Return a chart of the series; None where no series has a finite point.

    Args:
        series: the lines; points that are no finite numbers are left out.
        title: what the chart shows.
        x_label: what the horizontal axis counts.
        is_rate: whether the values are shares from 0 to 1, which are shown as percentages.
        level: the value and the text of a horizontal line.
    """
    kept = [(number, each.name, _finite(each.points)) for number, each in enumerate(series)]
    points = [point for _, _, line in kept for point in line]
    if not points:
        return None
    heights = [y for _, y in points] + ([level[0]] if level else [])
    x_low, x_high, x_steps = _axis([x for x, _ in points], from_zero=True)
    y_low, y_high, y_steps = _axis(heights, from_zero=is_rate)
    across = _Scale(x_low, x_high, _LEFT, WIDTH - _RIGHT)
    up = _Scale(y_low, y_high, HEIGHT - _BOTTOM, _TOP)
    return Chart(
        title=title,
        x_label=x_label,
        lines=tuple(_line(number, name, line, across, up) for number, name, line in kept if line),
        x_ticks=tuple(Tick(at=across(x), text=short(x)) for x in x_steps),
        y_ticks=tuple(Tick(at=up(y), text=f"{100 * y:.0f} %" if is_rate else short(y)) for y in y_steps),
        level=None if level is None else Tick(at=up(level[0]), text=level[1]),
    )


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        return round(self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first), 1)


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    kept = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    step = max(1, -(-len(kept) // _MOST_POINTS))
    return kept[::-1][::step][::-1]  # the last point is always there


def _line(number: int, name: str, points: Sequence[tuple[float, float]], across: _Scale, up: _Scale) -> Line:
    drawn = [(across(x), up(y)) for x, y in points]
    return Line(
        name=name,
        number=number,
        points=" ".join(f"{x:g},{y:g}" for x, y in drawn),
        end=drawn[-1],
        is_point=len(drawn) == 1,
    )


def _axis(values: Sequence[float], *, from_zero: bool) -> tuple[float, float, list[float]]:
    """Return the ends of an axis and the values of its ticks, which are 1, 2 or 5 times a power of ten apart."""
    low, high = min(values), max(values)
    if from_zero and low >= 0:
        low = 0.0
    if high == low:
        low, high = low - abs(low) / 2 - 0.5, high + abs(high) / 2 + 0.5
    step = _step((high - low) / _TICKS)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return first * step, last * step, [number * step for number in range(first, last + 1)]


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def short(value: float) -> str:
    """Format a number of an axis in a few characters, such as ``1.5k``."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.4g}{letter}"
    return f"{value:.4g}" if abs(value) > 1e-12 else "0"
