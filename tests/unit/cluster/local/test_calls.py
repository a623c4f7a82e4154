"""Calls within a process: what a promise promises to whoever awaits it, passes it on, or gives up."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
import torch

from raysplit.cluster.contract import COORDINATOR, Handle, PartySpec, current_party
from raysplit.cluster.links.link import Link
from raysplit.cluster.links.tensors import Envelope
from raysplit.cluster.local import eager
from raysplit.cluster.local.cluster import LocalCluster


class Party:
    def __init__(self, *, name: str) -> None:
        self.name = name
        self.opened = asyncio.Event()
        self.calls: list[str] = []

    async def who(self) -> str:
        self.calls.append("who")
        return current_party.get()

    async def held(self) -> torch.Tensor:
        self.calls.append("held")
        await self.opened.wait()
        return torch.ones(4)

    async def double(self, value: torch.Tensor) -> torch.Tensor:
        return 2 * value

    async def broken(self) -> None:
        await asyncio.sleep(0)
        raise ValueError("broken")

    async def count(self) -> list[str]:
        return self.calls

    async def open(self) -> None:
        self.opened.set()


async def deployed() -> tuple[LocalCluster, Handle]:
    cluster = LocalCluster()
    specs = [PartySpec(name="server", role="node", build=Party)]
    return cluster, (await cluster.deploy(specs))["server"]


def test_a_call_acts_for_its_party_and_leaves_its_caller_alone() -> None:
    async def calls() -> None:
        _, server = await deployed()
        assert await server.who() == "server"
        assert current_party.get() == COORDINATOR

    asyncio.run(calls())


def test_a_call_needs_nobody_who_awaits_it() -> None:
    async def calls() -> None:
        _, server = await deployed()
        promise = server.who()
        assert await server.count() == ["who"]  # calls begin in their order
        assert await promise == "server"

    asyncio.run(calls())


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0,), (1,), ()])
def test_promises_of_one_turn_are_all_kept_whatever_the_order_they_are_awaited_in(order: tuple[int, ...]) -> None:
    """The first call that was awaited threw away all later ones of its turn: an IndexError where they were awaited, and
    a submission that vanished where they were not."""

    async def calls() -> None:
        _, server = await deployed()
        promises = [server.double(torch.tensor([float(i)])) for i in range(3)]
        for i in order:
            assert await promises[i] == 2 * i
        await asyncio.sleep(0)
        assert [await promise for promise in promises] == [0, 2, 4]

    asyncio.run(calls())


def test_calls_that_nobody_awaits_are_made_in_their_order() -> None:
    async def calls() -> None:
        _, server = await deployed()
        server.held()
        await server.who()
        server.who()
        server.held()
        assert await server.count() == ["held", "who", "who", "held"]
        await server.open()

    asyncio.run(calls())


def test_several_may_await_a_promise_and_each_is_counted() -> None:
    async def calls() -> None:
        cluster, server = await deployed()
        promise = server.held()
        others = [asyncio.ensure_future(_value(promise)) for _ in range(3)]
        await server.open()
        values = [await promise, *[await other for other in others]]
        assert all(torch.equal(value, torch.ones(4)) for value in values)
        (link,) = await cluster.traffic()
        assert (link.source, link.destination, link.num_messages) == ("server", COORDINATOR, 4)

    asyncio.run(calls())


def test_a_promise_may_be_passed_on_before_it_has_begun() -> None:
    async def calls() -> None:
        _, server = await deployed()
        await server.open()
        assert torch.equal(await server.double(server.held()), 2 * torch.ones(4))

    asyncio.run(calls())


def test_a_failure_reaches_all_who_await() -> None:
    async def calls() -> None:
        _, server = await deployed()
        promise = server.broken()
        other = asyncio.ensure_future(_value(promise))
        for awaited in (promise, other):
            with pytest.raises(ValueError, match="broken"):
                await awaited
        assert current_party.get() == COORDINATOR

    asyncio.run(calls())


@pytest.mark.parametrize("ends_first", [True, False])
def test_a_failure_that_nobody_awaits_is_told_in_a_line(ends_first: bool, caplog: pytest.LogCaptureFixture) -> None:
    """It was a traceback of asyncio's, at some later time."""

    async def calls() -> None:
        _, server = await deployed()
        promise = server.broken()
        if ends_first:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        del promise
        await server.who()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(calls())
    gc.collect()
    assert caplog.messages == ["broken of server failed, and nobody awaits it: ValueError: broken"]


def test_a_call_that_a_stop_keeps_from_its_turn_leaves_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    """Ctrl-C could end with "coroutine was never awaited" as its last line."""

    async def work() -> Envelope:
        raise AssertionError("its turn did not come")

    async def stopped() -> None:
        turn = eager.Turn()
        eager.EagerPromise(work(), "work of server", turn, Link())
        turn._calls.clear()

    asyncio.run(stopped())
    gc.collect()
    assert not [str(warning.message) for warning in recwarn]


def test_who_awaits_may_be_cancelled_with_the_call() -> None:
    async def calls() -> None:
        _, server = await deployed()
        waiting = asyncio.ensure_future(_value(server.held()))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await server.open()
        assert torch.equal(await server.held(), torch.ones(4))

    asyncio.run(calls())


def test_who_awaits_a_call_makes_it_before_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert who_went(monkeypatch, row=9) == ["a", "a", "a", "b", "b", "b"]


def test_others_go_first_after_a_row_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    assert who_went(monkeypatch, row=0) == ["a", "b", "a", "b", "a", "b"]
    assert who_went(monkeypatch, row=9, turn=0) == ["a", "b", "a", "b", "a", "b"]
    assert who_went(monkeypatch, row=2) == ["a", "a", "b", "b", "a", "b"]


def who_went(monkeypatch: pytest.MonkeyPatch, *, row: int, turn: int = 99) -> list[str]:
    """The order of the calls of two who make three calls each, of which none has to wait."""
    monkeypatch.setattr(eager, "_ROW_CALLS", row)
    monkeypatch.setattr(eager, "_TURN_CALLS", turn)
    went = []

    async def caller(name: str, server: Handle) -> None:
        for _ in range(3):
            await server.who()
            went.append(name)

    async def calls() -> None:
        _, server = await deployed()
        await asyncio.gather(caller("a", server), caller("b", server))

    asyncio.run(calls())
    return went


@pytest.mark.parametrize("verb", ["held", "broken"])
def test_several_may_await_a_call_that_one_of_them_makes(verb: str) -> None:
    async def calls() -> None:
        cluster, server = await deployed()
        promises = []

        async def maker() -> Any:
            promises.append(getattr(server, verb)())
            return await promises[0]

        made = asyncio.ensure_future(maker())
        await asyncio.sleep(0)  # it waits in the midst of the call
        others = [asyncio.ensure_future(_value(promises[0])) for _ in range(2)]
        await server.open()
        values = await asyncio.gather(made, *others, promises[0], return_exceptions=True)
        values.append(await asyncio.gather(promises[0], return_exceptions=True))  # when it has long been made
        assert len({id(value) for value in values[:-1]} | {id(values[-1][0])}) == 1
        if verb == "broken":
            assert isinstance(values[0], ValueError)
        else:
            assert (await cluster.traffic())[0].num_messages == 5

    asyncio.run(calls())


def test_who_makes_a_call_may_be_cancelled_with_it() -> None:
    async def calls() -> None:
        _, server = await deployed()

        async def maker() -> None:
            with pytest.raises(asyncio.CancelledError):
                await server.held()
            assert current_party.get() == COORDINATOR

        made = asyncio.ensure_future(maker())
        await asyncio.sleep(0)
        made.cancel()
        await made
        await server.open()
        assert torch.equal(await server.held(), torch.ones(4))

    asyncio.run(calls())


def test_a_cluster_may_be_left_amid_a_call_and_used_on_another_loop() -> None:
    _, made = asyncio.run(deployed())

    async def leave() -> None:
        made.who()
        raise KeyboardInterrupt

    async def go_on() -> None:
        promise = made.who()
        await asyncio.sleep(0)
        assert await promise == "server"
        assert (await made.count())[-1] == "who"

    loop = asyncio.new_event_loop()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(leave())
    loop.close()
    asyncio.run(go_on())


async def _value(promise: Any) -> Any:
    return await promise
