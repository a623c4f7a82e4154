"""Every round is published under fixed names; a column that a round lacks is left out."""

from __future__ import annotations

import asyncio
import logging
from contextvars import copy_context
from typing import Any

from support import settings

from raysplit.cluster.contract import COORDINATOR, LinkTraffic, PartyLoad, PartySpec, current_party
from raysplit.cluster.load import LoadMeter, merge_loads
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.cluster.on_ray.home import Labels
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.runs.ray_metrics import MAX_LABELLED, METRICS, RayMetrics, by_link, by_party, measured
from raysplit.training.loop import run


def test_a_row_is_told_by_the_names_of_its_columns() -> None:
    row = {"round": 3, "num_samples": 40, "bytes": 1024, "train_loss": 0.5, "something": 7}
    assert measured(row) == {
        "raysplit_round": 3.0,
        "raysplit_samples": 40.0,
        "raysplit_bytes": 1024.0,
        "raysplit_train_loss": 0.5,
    }


async def _published() -> list[tuple[str, float]]:
    told: list[tuple[str, float]] = []
    config = check_config(settings())
    observer = RayMetrics(lambda name, value, **_: told.append((name, value)))
    await run(build(config), LocalCluster(), callbacks=[observer])
    return told


def test_a_run_tells_every_round() -> None:
    told = asyncio.run(_published())
    assert [value for name, value in told if name == "raysplit_round"] == [1.0, 2.0]
    assert {name for name, _ in told} == {metric.name for metric in METRICS if metric.column is not None}


def link(source: str, destination: str, num_bytes: int) -> LinkTraffic:
    return LinkTraffic(source=source, destination=destination, num_bytes=num_bytes, num_messages=1)


def test_links_and_parties_are_told_by_name() -> None:
    """The party that is not there any more has no queue."""
    told: list[tuple[Any, ...]] = []
    observer = RayMetrics(lambda name, value, **keys: told.append((name, value, *keys.values())))
    observer.round_measured(
        [link("owner-0", "server", 10), link("server", "owner-0", 20)],
        [PartyLoad(party="owner-0", wait_s=1.5, peak_calls=1), PartyLoad(party="server", wait_s=0.0, peak_calls=4)],
    )
    assert told == [
        ("raysplit_link_bytes", 10, "owner-0", "server"),
        ("raysplit_link_bytes", 20, "server", "owner-0"),
        ("raysplit_wait_seconds", 1.5, "owner-0"),
        ("raysplit_queue_depth", 1, "owner-0"),
        ("raysplit_wait_seconds", 0.0, "server"),
        ("raysplit_queue_depth", 4, "server"),
    ]
    told.clear()
    observer.round_measured([], [PartyLoad(party="server", wait_s=0.0, peak_calls=2)])
    assert ("raysplit_queue_depth", 0.0, "owner-0") in told


def test_many_parties_are_told_by_role() -> None:
    """Whatever their names are."""
    names = [f"clinic {i}" for i in range(MAX_LABELLED + 1)]
    roles = {**dict.fromkeys(names, "owner"), "heads": "node"}
    assert by_link([link(name, "heads", 2) for name in names], roles) == {("owner", "node"): 2 * (MAX_LABELLED + 1)}
    loads = [PartyLoad(party=name, wait_s=0.5, peak_calls=i) for i, name in enumerate(names)]
    assert by_party(loads, roles) == {"owner": (0.5 * (MAX_LABELLED + 1), MAX_LABELLED)}


def test_roles_are_those_of_the_parties_that_were_made() -> None:
    """Also of those that came while the run went on."""
    told: list[tuple[Any, ...]] = []
    observer = RayMetrics(lambda name, value, **keys: told.append((name, value, *keys.values())))
    observer.deployed([PartySpec(name=f"clinic {i}", role="owner", build=object) for i in range(MAX_LABELLED + 1)])
    observer.deployed([PartySpec(name="mean of depth", role="aggregator", build=object)])
    names = [f"clinic {i}" for i in range(MAX_LABELLED + 1)]
    observer.round_measured([*(link(name, "mean of depth", 1) for name in names), link(COORDINATOR, names[0], 5)], [])
    assert told == [
        ("raysplit_link_bytes", MAX_LABELLED + 1, "owner", "aggregator"),
        ("raysplit_link_bytes", 5, "coordinator", "owner"),
    ]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_waits_that_overlap_count_once_and_calls_at_once_are_counted() -> None:
    """
    party a waits   |--one--|
                        |--two--|     |--three-- asked here
    seconds         0   1   2   3     5          7
    """
    clock = Clock()
    meter = LoadMeter(clock)
    one, two, three = (meter.waiting("a", other) for other in "bcc")
    calls = [meter.answering("b") for _ in range(3)]
    one.__enter__()
    for call in calls:
        call.__enter__()
    clock.now = 1.0
    two.__enter__()
    clock.now = 2.0
    one.__exit__(None, None, None)
    clock.now = 3.0
    two.__exit__(None, None, None)
    for call in calls[:2]:
        call.__exit__(None, None, None)
    clock.now = 5.0
    three.__enter__()
    clock.now = 7.0
    assert meter.taken() == [
        PartyLoad(party="a", wait_s=5.0, peak_calls=0, wait_s_for={"b": 2.0, "c": 4.0}),
        PartyLoad(party="b", wait_s=0.0, peak_calls=3),
    ]
    clock.now = 8.0
    three.__exit__(None, None, None)
    assert meter.taken() == [
        PartyLoad(party="a", wait_s=1.0, peak_calls=0, wait_s_for={"c": 1.0}),
        PartyLoad(party="b", wait_s=0.0, peak_calls=1),
    ]
    one_place, another = ({"b": 1.0}, 2), ({"b": 0.5, "c": 3.0}, 1)
    parts = [[PartyLoad(party="a", wait_s=1.0, peak_calls=n, wait_s_for=waits)] for waits, n in (one_place, another)]
    assert merge_loads([*parts, meter.taken()]) == [
        PartyLoad(party="a", wait_s=2.0, peak_calls=3, wait_s_for={"b": 1.5, "c": 3.0}),
        PartyLoad(party="b", wait_s=0.0, peak_calls=1),
    ]


def test_lines_of_a_place_have_its_name_and_that_of_the_party() -> None:
    labels = Labels("place-1")

    def line() -> str:
        record = logging.LogRecord("raysplit.x", logging.INFO, "", 0, "hello", None, None)
        assert labels.filter(record)
        return logging.Formatter("[%(place)s %(party)s] %(message)s").format(record)

    def line_of(party: str) -> str:
        current_party.set(party)
        return line()

    assert line() == "[place-1 -] hello"
    assert copy_context().run(line_of, "owner-3") == "[place-1 owner-3] hello"
