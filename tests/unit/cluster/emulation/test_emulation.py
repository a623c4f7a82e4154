"""Emulated devices and links, drawn: who does what when."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from raysplit.cluster.contract import PartySpec, gather
from raysplit.cluster.device import Work
from raysplit.cluster.emulation.events import EventLog, Lateness
from raysplit.cluster.emulation.machines import Emulation, Machine
from raysplit.cluster.emulation.network import Interface
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.cluster.simulated.loop import VirtualClock, run_virtual

COSTS: Any = {(1, "forward"): 2.0, (1, "backward"): 3.0, (1, "update"): 1.0}
Drawn = list[tuple[float, float, str]]


class Sized:
    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = num_bytes


class Worker:
    """Does pieces of work, and makes values of a size."""

    def __init__(self, *, name: str, device: Any = None) -> None:
        self._device = device

    async def do(self, kind: Any, owner: str) -> Sized:
        await self._device.run(Work(kind=kind, owner=owner, part=1), lambda: None)
        return Sized(100)

    async def make(self, num_bytes: int) -> Sized:
        return Sized(num_bytes)

    async def take(self, *values: Sized) -> None:
        """Has them."""


def run(machines: dict[str, Machine], program: Any, **options: Any) -> Drawn:
    """Run ``program(handles, clock)`` on these machines; what happened as (start, end, what)."""
    clock = VirtualClock()
    cluster = LocalCluster(partial(described, machines=machines, clock=clock, **options))
    run_virtual(played(cluster, machines, program, clock))
    events = sorted(cluster.log, key=lambda e: (e.start_s, e.end_s))
    return [(e.start_s, e.end_s, e.device if e.kind == "transfer" else f"{e.kind} {e.owner}") for e in events]


def described(_: Any, machines: dict[str, Machine], clock: VirtualClock, **options: Any) -> Emulation:
    return Emulation(machines, clock, **options)


async def played(cluster: LocalCluster, machines: dict[str, Machine], program: Any, clock: VirtualClock) -> None:
    parties = [PartySpec(name=name, role="node", build=Worker) for name in machines]
    await program(await cluster.deploy(parties), clock)


def node(**changes: Any) -> Machine:
    return Machine(**{"device": "n", "costs": COSTS, **changes})


async def four_tasks(handles: Any, clock: VirtualClock) -> None:
    """Two batches forward at 0, one back at 1 with its update behind it, one more forward at 1.5."""
    n = handles["n"]
    first = [n.do("forward", "ann"), n.do("forward", "bob")]
    await clock.reach(1.0)
    later = [n.do("backward", "cy")]
    await clock.reach(1.5)
    later.append(n.do("forward", "dan"))
    await gather(*first, *later)


def test_one_worker_first_come_first_served() -> None:
    assert run({"n": node()}, four_tasks) == [
        (0, 2, "forward ann"),
        (2, 4, "forward bob"),
        (4, 7, "backward cy"),
        (7, 9, "forward dan"),
    ]


def test_backward_first() -> None:
    assert run({"n": node(policy="backward_first")}, four_tasks) == [
        (0, 2, "forward ann"),
        (2, 5, "backward cy"),
        (5, 7, "forward bob"),
        (7, 9, "forward dan"),
    ]


def test_fair_serves_whoever_had_least() -> None:
    async def greedy(handles: Any, clock: VirtualClock) -> None:
        n = handles["n"]
        await gather(*[n.do("forward", owner) for owner in ("ann", "ann", "ann", "bob", "cy")])

    assert [what for _, _, what in run({"n": node(policy="fair")}, greedy)] == [
        "forward ann",
        "forward bob",
        "forward cy",
        "forward ann",
        "forward ann",
    ]


def test_an_update_overtakes_what_waits() -> None:
    """The update becomes ready in the same instant in which the device is free: it goes first all the same."""

    async def program(handles: Any, clock: VirtualClock) -> None:
        n = handles["n"]
        back, waiting = n.do("backward", "ann"), n.do("forward", "bob")
        await back
        await gather(n.do("update", "ann"), waiting)

    assert run({"n": node()}, program) == [(0, 3, "backward ann"), (3, 4, "update ann"), (4, 6, "forward bob")]


@pytest.mark.parametrize("given_up_s", [1.0, 2.0, 2.5])
def test_who_gives_up_leaves_the_machine_to_the_next(given_up_s: float) -> None:
    """Bob is cancelled while he waits, in the moment his turn comes, or at work; ann works from 0 to 2."""

    async def program(handles: Any, clock: VirtualClock) -> None:
        n = handles["n"]
        first, waiting = n.do("forward", "ann"), asyncio.ensure_future(having(n.do("forward", "bob")))
        last = n.do("forward", "cy")
        await clock.reach(given_up_s)
        waiting.cancel()
        await gather(first, last)
        assert (await asyncio.gather(waiting, return_exceptions=True))[0].__class__ is asyncio.CancelledError

    cy = 2.5 if given_up_s == 2.5 else 2.0
    assert run({"n": node()}, program) == [(0, 2, "forward ann"), (cy, cy + 2, "forward cy")]


async def having(promise: Any) -> Any:
    return await promise


def test_parties_on_one_processor_take_turns_and_hosts_have_so_many_cores() -> None:
    async def both(handles: Any, clock: VirtualClock) -> None:
        await gather(*[handles[name].do("forward", name) for name in handles])

    shared = {name: node(device="one processor") for name in ("a", "b")}
    assert run(shared, both) == [(0, 2, "forward a"), (2, 4, "forward b")]
    apart = {name: node(device=name) for name in ("a", "b")}
    assert run(apart, both) == [(0, 2, "forward a"), (0, 2, "forward b")]
    three = {name: node(device=name, host="laptop") for name in ("a", "b", "c")}
    assert run(three, both, host_cores={"laptop": 2}) == [(0, 2, "forward a"), (0, 2, "forward b"), (2, 4, "forward c")]


def test_a_transfer_takes_latency_and_the_slower_end() -> None:
    slow = Interface(up_bytes_per_s=50, down_bytes_per_s=10, latency_s=0.5)
    fast = Interface(up_bytes_per_s=1000, down_bytes_per_s=1000, latency_s=0.25)
    machines = {"slow": node(interface=slow), "fast": node(interface=fast)}

    async def there_and_back(handles: Any, clock: VirtualClock) -> None:
        await handles["fast"].take(handles["slow"].make(100))
        await handles["slow"].take(handles["fast"].make(100))

    assert run(machines, there_and_back) == [(0, 2.75, "slow -> fast"), (2.75, 13.5, "fast -> slow")]


def test_inside_a_process_values_take_no_time() -> None:
    async def there_and_away(handles: Any, clock: VirtualClock) -> None:
        await handles["b"].take(handles["a"].make(100))
        await handles["c"].take(handles["a"].make(100))

    machines = {name: node(interface=Interface(up_bytes_per_s=50, latency_s=1)) for name in "abc"}
    places = {"a": "place-0", "b": "place-0", "c": "place-1"}
    assert run(machines, there_and_away, place_of=places) == [(0, 4, "a -> c")]


def test_transfers_overlap_unless_the_link_is_serial() -> None:
    async def two(handles: Any, clock: VirtualClock) -> None:
        a, b, c = (handles[name] for name in "abc")
        await gather(b.take(a.make(100)), c.take(a.make(100)))

    def machines(serial: bool) -> dict[str, Machine]:
        link = Interface(up_bytes_per_s=100, down_bytes_per_s=100)
        return {"a": node(interface=Interface(up_bytes_per_s=100, serial=serial))} | {
            name: node(interface=link) for name in "bc"
        }

    assert run(machines(False), two) == [(0, 1, "a -> b"), (0, 1, "a -> c")]
    assert run(machines(True), two) == [(0, 1, "a -> b"), (1, 2, "a -> c")]


def test_a_value_travels_while_its_user_is_busy() -> None:
    """Made at 0, 4 s under way; the user asks for it at 3 and has it at 4."""

    async def program(handles: Any, clock: VirtualClock) -> None:
        value = handles["a"].make(400)
        await clock.reach(3.0)
        await handles["b"].take(value)

    machines = {name: node(interface=Interface(up_bytes_per_s=100)) for name in "ab"}
    assert run(machines, program) == [(0, 4, "a -> b")]


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ({"up_bytes_per_s": 0}, "must be above 0, got 0 bytes/s up and inf bytes/s down"),
        ({"down_bytes_per_s": -1}, "must be above 0"),
        ({"latency_s": -0.1}, "latency of a link must be finite and at least 0, got -0.1 s"),
    ],
)
def test_impossible_links(link: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Interface(**link)


# -- late steps ----------------------------------------------------------------------------------------------------


def paced(described_s: float, computing_s: float) -> EventLog:
    """Two forward passes and an update that takes no described time, on a wall clock that moves only by computing."""
    clock = ByHand()
    machine = Machine(device="n", costs={(1, "forward"): described_s, (1, "update"): 0.0})
    emulation = Emulation({"n": machine}, clock)
    device = emulation.device("n")

    async def main() -> None:
        for step, kind in enumerate(("forward", "update", "forward")):
            work = Work(kind=kind, owner="ann", part=1, round=2, step=step)  # type: ignore[arg-type]
            await device.run(work, lambda: clock.pass_by(computing_s))

    asyncio.run(main())
    return emulation.log


class ByHand:
    """A clock for tests: time passes when told to; a call goes on from where it was to be."""

    def __init__(self) -> None:
        self._time_s = self._reached_s = 0.0

    def pass_by(self, seconds: float) -> None:
        self._time_s += seconds

    def time_s(self) -> float:
        return self._time_s

    def now_s(self) -> float:
        return self._reached_s

    async def reach(self, when_s: float) -> None:
        self._time_s = max(self._time_s, when_s)
        self._reached_s = when_s


def test_steps_in_time_are_not_late() -> None:
    assert paced(2.0, 0.5).lateness == {("n", 2): Lateness(num_steps=2)}


def test_a_machine_too_slow_is_late_and_later() -> None:
    """Computing takes 3 s where 2 are described: ready at 3, not at 2; then, an update between, at 9, not at 4."""
    expected = Lateness(num_steps=2, num_late=2, num_too_slow=2, late_s=1.0 + 5.0, worst_late_s=5.0)
    assert paced(2.0, 3.0).lateness == {("n", 2): expected}


def test_lateness_of_several_places_adds_up() -> None:
    log = paced(2.0, 3.0)
    log.extend(paced(2.0, 0.5))
    assert log.lateness_since(3) == {}
    found = log.lateness_since(2)["n"]
    assert (found.num_steps, found.num_late, found.worst_late_s) == (4, 2, 5.0)
