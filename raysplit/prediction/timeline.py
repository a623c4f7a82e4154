"""Timeline of a run, predicted or measured: the work of every device, its use, and the bottleneck.

A simulation and a paced run log the same events, so the same code reads both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from raysplit.cluster.emulation.events import COLUMNS, NAME_COLUMNS, TRANSFER, EventLog, Lateness

_PARTIES_NAMED = 4

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceUse:
    """Use of a device between the first and the last event of the run.

    Attributes:
        device: the name of the device.
        busy_s: seconds at work.
        idle_s: seconds not at work, its bubbles.
        longest_idle_s: the longest bubble between two pieces of work, in seconds.
        num_tasks: the number of pieces of work.
    """

    device: str
    busy_s: float
    idle_s: float
    longest_idle_s: float
    num_tasks: int

    @property
    def utilisation(self) -> float:
        """Share of the time at work, from 0 to 1."""
        return self.busy_s / (self.busy_s + self.idle_s) if self.busy_s else 0.0


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Events as columns; names are indices into ``names``, and times are in seconds."""

    names: tuple[str, ...]
    columns: dict[str, npt.NDArray[Any]]

    def __len__(self) -> int:
        return len(self.columns["start_s"])

    def column(self, name: str) -> list[str]:
        """Return a column of names as strings."""
        return [self.names[number] for number in self.columns[name]]

    def where(self, mask: npt.NDArray[np.bool_]) -> Timeline:
        """Return the events that a mask selects."""
        return Timeline(names=self.names, columns={key: values[mask] for key, values in self.columns.items()})

    @property
    def work(self) -> Timeline:
        """The events that are not transfers."""
        return self.where(self.columns["kind"] != self._number(TRANSFER))

    @property
    def transfers(self) -> Timeline:
        """The events that are transfers."""
        return self.where(self.columns["kind"] == self._number(TRANSFER))

    def from_zero(self) -> Timeline:
        """Return the timeline shifted so that the first event is at 0."""
        first_s = self.columns["start_s"].min(initial=float("inf"))
        shifted = {key: self.columns[key] - first_s for key in ("start_s", "end_s")}
        return Timeline(names=self.names, columns=self.columns | shifted)

    def since_round(self, round: int) -> Timeline:
        """Return the events of a round and of the rounds after it."""
        return self.where(self.columns["round"] >= round)

    @property
    def span_s(self) -> float:
        """Seconds from the first start to the last end."""
        return float(self.columns["end_s"].max() - self.columns["start_s"].min()) if len(self) else 0.0

    def device_names(self) -> list[str]:
        """List the devices that have worked: shared places and nodes before owners, each in numerical order."""
        return self._in_order(np.unique(self.work.columns["device"]))

    def uses(self) -> list[DeviceUse]:
        """Compute the use of every device."""
        work, span_s = self.work, self.span_s
        order = np.lexsort((work.columns["start_s"], work.columns["device"]))  # stable: equal starts as they were
        starts, ends = work.columns["start_s"][order], work.columns["end_s"][order]
        devices, firsts = np.unique(work.columns["device"][order], return_index=True)
        bounds = dict(zip(devices.tolist(), pairwise([*firsts.tolist(), len(order)]), strict=True))
        uses = []
        for device in self._in_order(devices):
            first, end = bounds[self._number(device)]
            begun, ended = starts[first:end], ends[first:end]
            busy_s = float((ended - begun).sum())
            gaps = begun[1:] - np.maximum.accumulate(ended)[:-1]
            uses.append(
                DeviceUse(
                    device=device,
                    busy_s=busy_s,
                    idle_s=max(0.0, span_s - busy_s),
                    longest_idle_s=max(0.0, float(gaps.max(initial=0.0))),
                    num_tasks=end - first,
                )
            )
        return uses

    def busy_s(self) -> dict[str, float]:
        """Return the seconds at work by party."""
        work = self.work
        seconds = np.bincount(
            work.columns["party"], work.columns["end_s"] - work.columns["start_s"], minlength=len(self.names)
        )
        parties = self._in_order(np.unique(work.columns["party"]))
        return {party: float(seconds[self._number(party)]) for party in parties}

    def bottleneck(self) -> DeviceUse | None:
        """Return the device with the longest time at work; None without work."""
        return max(self.uses(), key=lambda use: use.busy_s, default=None)

    def _in_order(self, numbers: Numbers) -> list[str]:
        # node-10 comes after node-9, and owners come last
        owners = {self.names[number] for number in np.unique(self.columns["owner"])}
        return sorted((self.names[number] for number in numbers), key=lambda name: (name in owners, *by_number(name)))

    def _number(self, name: str) -> int:
        return self._numbers.get(name, -1)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    # -- files ---------------------------------------------------------------------------------------------------

    def table(self) -> pa.Table:
        """Return a table with one row per event; `raysplit.cluster.emulation.events.Event` describes the columns."""
        dictionary = pa.array(list(self.names), pa.string())
        return pa.table(
            {
                name: pa.DictionaryArray.from_arrays(pa.array(self.columns[name], pa.int32()), dictionary)
                if name in NAME_COLUMNS
                else pa.array(self.columns[name])
                for name in COLUMNS
            }
        )

    def write_parquet(self, path: Path | str) -> None:
        pq.write_table(self.table(), str(path), write_page_checksum=True)

    def write_trace(self, path: Path | str) -> None:
        """Write trace-event JSON for Perfetto (ui.perfetto.dev) and chrome://tracing, with one track per device."""
        with Path(path).open("w", encoding="utf-8") as file:
            file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
            file.write(",\n".join(json.dumps(event) for event in self._trace_events()))
            file.write("\n]}\n")

    def _trace_events(self) -> Iterator[dict[str, Any]]:
        tracks = {party: i for i, party in enumerate(self._in_order(np.unique(self.columns["party"])), start=1)}
        for party, track in tracks.items():
            yield {"ph": "M", "name": "process_name", "pid": track, "args": {"name": party}}
            yield {"ph": "M", "name": "process_sort_index", "pid": track, "args": {"sort_index": track}}
        rows = self.columns
        for i, (party, device, kind, owner) in enumerate(zip(*[self.column(c) for c in NAME_COLUMNS], strict=True)):
            moved = kind == TRANSFER
            about = {"bytes": int(rows["num_bytes"][i])} if moved else {"round": int(rows["round"][i])}
            yield {
                "ph": "X",
                "name": f"receive from {device.split(' -> ')[0]}" if moved else f"{kind} {owner}",
                "cat": kind,
                "pid": tracks[party],
                "tid": 2 if moved else 1,
                "ts": round(float(rows["start_s"][i]) * 1e6, 3),
                "dur": round(float(rows["end_s"][i] - rows["start_s"][i]) * 1e6, 3),
                "args": about | ({} if moved else {"step": int(rows["step"][i])}),
            }


def timeline_of(log: EventLog) -> Timeline:
    """Return the events of a log as a timeline."""
    columns = {name: np.array(values) for name, values in log.columns().items()}
    return Timeline(names=tuple(log.names), columns=columns)


def read_timeline(path: Path | str) -> Timeline:
    """Read a file that `Timeline.write_parquet` wrote."""
    table = pq.read_table(str(path), page_checksum_verification=True)
    log = EventLog()
    for row in table.to_pylist():
        log.add(tuple(row[column] for column in COLUMNS))
    return timeline_of(log)


def by_number(name: str) -> tuple[str, int, str]:
    """Return a key that sorts names by their number: node-10 after node-9."""
    stem, _, number = name.rpartition("-")
    return stem, int(number) if number.isdigit() else -1, name


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Predicted against measured times of a run.

    Attributes:
        round_s: the predicted and the measured length of a round, in described seconds.
        busy_s: the predicted and the measured seconds at work, by party.
        lateness: the steps of a paced run that this machine was too slow for, by party.
    """

    round_s: tuple[float, float]
    busy_s: dict[str, tuple[float, float]]
    lateness: dict[str, Lateness] = field(default_factory=dict)

    @property
    def pace(self) -> str | None:
        """Warning about the pace of a paced run; None where it was kept."""
        late = {party: found for party, found in self.lateness.items() if found.num_late}
        if not late:
            return None
        total = sum(self.lateness.values(), Lateness())
        worst = sorted(late, key=lambda party: -late[party].num_late)
        parties = ", ".join(f"{party} {late[party].num_late}" for party in worst[:_PARTIES_NAMED])
        others = f" and {len(worst) - _PARTIES_NAMED} more parties" if len(worst) > _PARTIES_NAMED else ""
        return (
            f"this machine cannot keep the described pace: {total.num_late} of {total.num_steps} steps were late, by "
            f"{total.worst_late_s:.3g} described s at most ({parties}{others}); the computing alone took too long in "
            f"{total.num_too_slow}. Describe slower devices (slowdown), raise topology.time_scale or use more machines"
        )

    @property
    def error(self) -> float:
        """Relative error of the predicted round, which is positive where the prediction is too long."""
        predicted, measured = self.round_s
        return (predicted - measured) / measured


def compare(
    predicted: Timeline, measured: Timeline, *, predicted_s: Sequence[float], measured_s: Sequence[float]
) -> Comparison:
    """Compare the mean round time and the busy times of two timelines of the same rounds."""
    before, after = predicted.busy_s(), measured.busy_s()
    return Comparison(
        round_s=(sum(predicted_s) / len(predicted_s), sum(measured_s) / len(measured_s)),
        busy_s={party: (before[party], after.get(party, 0.0)) for party in before},
    )
