"""Connections whose bandwidth and latency change over time."""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from raysplit.registry import nearest

SECONDS, BOTH, UP, DOWN, LATENCY = "seconds", "bandwidth_mbit_per_s", "up_mbit_per_s", "down_mbit_per_s", "latency_ms"
COLUMNS = (SECONDS, BOTH, UP, DOWN, LATENCY)
BYTES_PER_MBIT = 1e6 / 8


class State(NamedTuple):
    """A connection for a while.

    Attributes:
        up_bytes_per_s, down_bytes_per_s: its bandwidths; 0 carries nothing.
        latency_s: its latency.
        until_s: when the next state begins; infinite for the last one.
    """

    up_bytes_per_s: float
    down_bytes_per_s: float
    latency_s: float
    until_s: float


@dataclass(frozen=True, kw_only=True)
class LinkTrace:
    """The bandwidths and the latency of a connection, each of which holds until the next.

    Attributes:
        times_s: when each of them begins, rising from 0.
        up_bytes_per_s, down_bytes_per_s: bandwidths; 0 carries nothing for a while.
        latencies_s: latencies.
        repeat_s: when the trace begins anew; None keeps the last values for good.
        ahead_s: how far the connection is in the trace when the run begins.

    Raises:
        ValueError: for values that are no trace.
    """

    times_s: tuple[float, ...]
    up_bytes_per_s: tuple[float, ...]
    down_bytes_per_s: tuple[float, ...]
    latencies_s: tuple[float, ...]
    repeat_s: float | None = None
    ahead_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.times_s or self.times_s[0] != 0:
            raise ValueError("a trace begins at 0 seconds; add a row with what holds from the beginning")
        for row, (before, after) in enumerate(zip(self.times_s, self.times_s[1:], strict=False), start=2):
            if not before < after < math.inf:
                raise ValueError(f"row {row} is at {after:g} s, after {before:g} s; times must rise and be finite")
        for name, values, can_be_infinite in (
            ("an upload bandwidth", self.up_bytes_per_s, True),
            ("a download bandwidth", self.down_bytes_per_s, True),
            ("a latency", self.latencies_s, False),
        ):
            for row, value in enumerate(values, start=1):
                if not value >= 0 or (math.isinf(value) and not can_be_infinite):
                    raise ValueError(f"row {row} has {name} of {value:g}; it must be at least 0")
        for name, values in (("upload", self.up_bytes_per_s), ("download", self.down_bytes_per_s)):
            if not (values[-1] if self.repeat_s is None else max(values)) > 0:
                raise ValueError(
                    f"the trace ends with {name} at 0 bytes/s, so that a message would never arrive; let the last row "
                    f"carry something, or let the trace begin anew"
                )
        if self.repeat_s is not None and not self.times_s[-1] < self.repeat_s < math.inf:
            raise ValueError(
                f"the trace begins anew after {self.repeat_s:g} s, and its last row is at {self.times_s[-1]:g} s; let "
                f"it begin anew after that"
            )

    def at(self, time_s: float) -> State:
        """Return the state at a time of the run."""
        in_trace_s = time_s + self.ahead_s
        begun_s = 0.0
        if self.repeat_s is not None:
            begun_s = self.repeat_s * math.floor(in_trace_s / self.repeat_s)
            in_trace_s -= begun_s
        row = max(0, bisect_right(self.times_s, in_trace_s) - 1)
        following = self.times_s[row + 1] if row + 1 < len(self.times_s) else self.repeat_s
        until_s = math.inf if following is None else begun_s + following - self.ahead_s
        if until_s <= time_s:  # the difference of two times may round down
            until_s = math.nextafter(time_s, math.inf)
        return State(self.up_bytes_per_s[row], self.down_bytes_per_s[row], self.latencies_s[row], until_s)

    @property
    def end_s(self) -> float:
        """Where the last row ends: at `repeat_s`, or after as long as the rows before it on average."""
        last_s = self.times_s[-1]
        if self.repeat_s is not None:
            return self.repeat_s
        return last_s + (last_s / (len(self.times_s) - 1) if last_s else 1.0)

    def mean(self, values: Sequence[float]) -> float:
        """Return the mean over time of one value for each row, the last of which counts up to `end_s`."""
        ends = [*self.times_s[1:], self.end_s]
        return sum(v * (b - a) for v, a, b in zip(values, self.times_s, ends, strict=True)) / self.end_s


End = tuple[LinkTrace | None, State]
"""One end of a connection: its trace, or the state that it always has."""


def state_at(end: End, time_s: float) -> State:
    """Return the state of an end at a time of the run."""
    trace, constant = end
    return constant if trace is None else trace.at(time_s)


def sent_at(start_s: float, num_bytes: float, sender: End, receiver: End) -> float:
    """Return when the last of some bytes has left, at the smaller of two bandwidths at every moment."""
    time_s, left = start_s, float(num_bytes)
    while left > 0:
        up, down = state_at(sender, time_s), state_at(receiver, time_s)
        rate, until_s = min(up.up_bytes_per_s, down.down_bytes_per_s), min(up.until_s, down.until_s)
        if math.isinf(rate):
            break
        if rate * (until_s - time_s) >= left:
            return time_s + left / rate
        left -= rate * (until_s - time_s)
        time_s = until_s
    return time_s


def read_trace(path: Path, constant: State, repeat_s: float | None) -> LinkTrace:
    """Read a trace from a CSV file with the column ``seconds`` and some of the other `COLUMNS`.

    Args:
        path: the file.
        constant: what holds for columns that the file does not have.
        repeat_s: when the trace begins anew; None keeps the last row for good.

    Raises:
        ValueError: for a file that is no trace; the message has its row.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            names, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"the trace {path} cannot be read: {error}") from None
    known = ", ".join(COLUMNS)
    for name in names:
        if name not in COLUMNS:
            raise ValueError(f"the trace {path} has a column {name!r}{nearest(name, COLUMNS)}; it may have {known}")
    if SECONDS not in names or len(names) < 2:
        raise ValueError(f"the trace {path} needs the column {SECONDS} and one more of {known}; it has {names}")
    for number, row in enumerate(rows, start=1):
        if None in row:
            raise ValueError(f"row {number} of the trace {path} has more values than the {len(names)} columns {names}")
    if BOTH in names and (UP in names or DOWN in names):
        raise ValueError(f"the trace {path} has {BOTH} and the bandwidth of a direction as well; leave one out")

    def column(name: str, scale: float, otherwise: float) -> tuple[float, ...]:
        if name not in names:
            return (otherwise,) * len(rows)
        if 0 < otherwise < math.inf:
            raise ValueError(f"{name} is in the file and a constant setting as well; leave one out")
        return tuple(_number(row, name, number, path) * scale for number, row in enumerate(rows, start=1))

    try:
        return LinkTrace(
            times_s=column(SECONDS, 1.0, 0.0),
            up_bytes_per_s=column(BOTH if BOTH in names else UP, BYTES_PER_MBIT, constant.up_bytes_per_s),
            down_bytes_per_s=column(BOTH if BOTH in names else DOWN, BYTES_PER_MBIT, constant.down_bytes_per_s),
            latencies_s=column(LATENCY, 1e-3, constant.latency_s),
            repeat_s=repeat_s,
        )
    except ValueError as error:
        raise ValueError(f"the trace {path} is none: {error}") from None


def _number(row: Mapping[str, str | None], name: str, number: int, path: Path) -> float:
    try:
        return float(row[name] or "")
    except ValueError:
        raise ValueError(f"row {number} of the trace {path} has {name} {row[name]!r}; give a number") from None
