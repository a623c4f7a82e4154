"""The loop whose time jumps, and the clock that keeps pace."""

from __future__ import annotations

import asyncio
import time

import pytest

from raysplit.cluster.clock import WallClock
from raysplit.cluster.simulated.loop import Deadlock, VirtualClock, VirtualLoop, run_virtual


def test_hours_pass_at_once_and_in_order() -> None:
    seen: list[tuple[str, float]] = []

    async def sleeper(name: str, *naps_s: float) -> None:
        for nap_s in naps_s:
            await asyncio.sleep(nap_s)
            seen.append((name, asyncio.get_running_loop().time()))

    async def main() -> None:
        await asyncio.gather(sleeper("ann", 3600, 3600), sleeper("bob", 5000, 2200), sleeper("cy", 7200))

    began = time.perf_counter()
    run_virtual(main())
    assert time.perf_counter() - began < 2
    assert seen == [("ann", 3600), ("bob", 5000), ("cy", 7200), ("ann", 7200), ("bob", 7200)]  # ties: set first


def test_reaching_a_time_twice_or_late_takes_none() -> None:
    clock = VirtualClock()

    async def main() -> list[float]:
        times = []
        for when_s in (2.0, 2.0, 1.0, 2.5):
            await clock.reach(when_s)
            times.append(clock.time_s())
        return times

    assert run_virtual(main()) == [2.0, 2.0, 2.0, 2.5]


def test_what_is_set_for_this_instant_runs_after_the_rest_of_it() -> None:
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_at(loop.time(), seen.append, "end of the instant")
        loop.call_soon(lambda: loop.call_soon(seen.append, "second step"))
        loop.call_soon(seen.append, "first step")
        await asyncio.sleep(1)

    run_virtual(main())
    assert seen == ["first step", "second step", "end of the instant"]


def test_timeouts_and_cancelled_timers() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(100), timeout=3)
        task = asyncio.ensure_future(asyncio.sleep(50))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 4.0


def test_waiting_for_one_another_forever_is_an_error() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock, match="nothing is in transit"):
        run_virtual(main())


def test_context_of_a_task_is_its_own() -> None:
    """An empty context is false; a loop that took it for none ran tasks in their caller's context."""
    from contextvars import ContextVar

    name: ContextVar[str] = ContextVar("name", default="nobody")

    async def child(own: str) -> str:
        name.set(own)
        await asyncio.sleep(1)
        return name.get()

    async def main() -> list[str]:
        return list(await asyncio.gather(child("ann"), child("bob"))) + [name.get()]

    assert run_virtual(main()) == ["ann", "bob", "nobody"]
    assert isinstance(asyncio.Runner(loop_factory=VirtualLoop), asyncio.Runner)


def test_a_paced_call_goes_on_from_where_it_was_to_be() -> None:
    """Ten steps of 20 described seconds at a thousandth: late wake-ups must not add up."""
    clock = WallClock(started_s=time.time(), time_scale=1e-3)

    async def main() -> float:
        for _ in range(10):
            await clock.reach(clock.now_s() + 20)
        return clock.now_s()

    assert asyncio.run(main()) >= 200
    assert clock.time_s() >= 200


def test_a_paced_call_that_lags_too_far_starts_from_the_real_time() -> None:
    clock = WallClock(started_s=time.time() - 5, slack_real_s=0.5)
    assert 4.5 <= clock.now_s() < 5.5


def test_a_time_scale_must_be_positive() -> None:
    with pytest.raises(ValueError, match="time_scale must be above 0, got 0; 1 is real time"):
        WallClock(started_s=0, time_scale=0)
