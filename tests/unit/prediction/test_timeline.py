"""Timelines: use of devices, bubbles, files that are read back, and predicted against measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from raysplit.cluster.emulation.events import Event, EventLog, Lateness
from raysplit.prediction.timeline import Timeline, compare, read_timeline, timeline_of
from raysplit.prediction.timeline_picture import draw_timeline

#        0    1    2    3    4    5    6    7    8    9    10
# node-1      [F ann  ]         [B ann       ][U]
# node-2                [F ann ]
# ann    [F ]==============                       ==[B ]      (= receives)
EVENTS = [
    ("owner-0", "owner-0", "forward", "ann", 0, 0, 0.0, 1.0, 0),
    ("node-1", "owner-0 -> node-1", "transfer", "", -1, -1, 0.5, 1.0, 64),
    ("node-1", "node-1", "forward", "ann", 0, 0, 1.0, 3.0, 0),
    ("node-2", "node-2", "forward", "ann", 0, 0, 3.0, 4.5, 0),
    ("node-1", "node-1", "backward", "ann", 0, 0, 5.0, 8.0, 0),
    ("node-1", "node-1", "update", "ann", 0, 0, 8.0, 8.5, 0),
    ("owner-0", "owner-0", "backward", "ann", 0, 0, 9.0, 10.0, 0),
    ("owner-0", "owner-0", "forward", "ann", 1, 0, 20.0, 21.0, 0),
]


@pytest.fixture
def timeline() -> Timeline:
    return timeline_of(_log(EVENTS[:-1]))


def _log(rows: list[tuple[str, str, str, str, int, int, float, float, int]]) -> EventLog:
    log = EventLog()
    for row in rows:
        log.add(row)
    return log


def test_use_of_devices(timeline: Timeline) -> None:
    uses = {use.device: use for use in timeline.uses()}
    assert list(uses) == ["node-1", "node-2", "owner-0"]
    node = uses["node-1"]
    assert (node.busy_s, node.idle_s, node.longest_idle_s, node.num_tasks) == (5.5, 4.5, 2.0, 3)
    assert node.utilisation == 0.55
    assert (uses["owner-0"].busy_s, uses["owner-0"].longest_idle_s) == (2.0, 8.0)
    bottleneck = timeline.bottleneck()
    assert bottleneck is not None
    assert bottleneck.device == "node-1"
    assert timeline.span_s == 10.0


def test_owners_come_last_whatever_their_names() -> None:
    """They are those on whose behalf others work."""
    rows = [tuple("ann" if value == "owner-0" else value for value in row) for row in EVENTS]
    found = timeline_of(_log(rows))  # type: ignore[arg-type]
    assert found.device_names() == list(found.busy_s()) == ["node-1", "node-2", "ann"]


def test_rounds_from_one_on() -> None:
    whole = timeline_of(_log(EVENTS))
    assert [len(whole.since_round(round)) for round in (0, 1, 2)] == [7, 1, 0]  # transfers belong to no round
    assert whole.since_round(1).span_s == 1.0


def test_a_timeline_from_zero(timeline: Timeline) -> None:
    late = timeline_of(_log([(*row[:6], row[6] + 25, row[7] + 25, row[8]) for row in EVENTS[:-1]]))
    assert late.from_zero().table().to_pylist() == timeline.table().to_pylist()


def test_a_log_keeps_everything_and_grows_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysplit.cluster.emulation.events._CHUNK", 64)
    log = EventLog()
    for i in range(200):
        log.add((f"owner-{i % 3}", "d", "forward", "o", 0, i, float(i), i + 0.5, 0))
    assert len(log) == 200
    events = list(log)
    last = Event(party="owner-1", device="d", kind="forward", owner="o", round=0, step=199, start_s=199.0, end_s=199.5)
    assert events[-1] == last
    other = EventLog()
    other.extend(log)
    assert list(other) == events


def test_parquet_is_read_back(timeline: Timeline, tmp_path: Path) -> None:
    timeline.write_parquet(tmp_path / "t.parquet")
    again = read_timeline(tmp_path / "t.parquet")
    assert again.table().to_pylist() == timeline.table().to_pylist()
    assert again.table().to_pylist()[2]["party"] == "node-1"


def test_a_trace_opens_in_perfetto(timeline: Timeline, tmp_path: Path) -> None:
    timeline.write_trace(tmp_path / "t.json")
    trace = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    names = {e["args"]["name"]: e["pid"] for e in trace if e["name"] == "process_name"}
    assert list(names) == ["node-1", "node-2", "owner-0"]
    (work,) = [e for e in trace if e["ph"] == "X" and e["cat"] == "update"]
    assert (work["ts"], work["dur"], work["pid"], work["name"]) == (8e6, 5e5, names["node-1"], "update ann")
    (moved,) = [e for e in trace if e["ph"] == "X" and e["cat"] == "transfer"]
    assert (moved["args"], moved["name"], moved["tid"]) == ({"bytes": 64}, "receive from owner-0", 2)


def test_predicted_against_measured(timeline: Timeline) -> None:
    slower = timeline_of(_log([(*row[:6], 2 * row[6], 2 * row[7], row[8]) for row in EVENTS[:-1]]))
    comparison = compare(timeline, slower, predicted_s=[9.0, 11.0], measured_s=[12.0, 13.0])
    assert comparison.round_s == (10.0, 12.5)
    assert comparison.error == pytest.approx(-0.2)
    assert comparison.busy_s == {"node-1": (5.5, 11.0), "node-2": (1.5, 3.0), "owner-0": (2.0, 4.0)}


def test_a_pace_that_was_not_kept_is_said_in_a_sentence(timeline: Timeline) -> None:
    comparison = compare(timeline, timeline, predicted_s=[9.0], measured_s=[9.0])
    assert comparison.pace is None
    in_time = Lateness(num_steps=10)
    late = Lateness(num_steps=6, num_late=4, num_too_slow=1, late_s=2.0, worst_late_s=1.25)
    assert replace(comparison, lateness={"owner-0": in_time}).pace is None
    found = replace(comparison, lateness={"owner-0": in_time, "node-1": late, "node-2": replace(late, num_late=5)})
    assert found.pace is not None
    assert "9 of 22 steps were late, by 1.25 described s at most (node-2 5, node-1 4); " in found.pace
    assert "the computing alone took too long in 2" in found.pace


def test_an_empty_timeline() -> None:
    empty = timeline_of(EventLog())
    assert (empty.span_s, empty.uses(), empty.bottleneck()) == (0.0, [], None)


def test_a_picture_is_drawn(timeline: Timeline, tmp_path: Path) -> None:
    draw_timeline(timeline, tmp_path / "t.png", title="one batch")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
