"""Calls within a process: what a promise promises to whoever awaits it, passes it on, or gives up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch

from raysplit.cluster.contract import COORDINATOR, Handle, PartySpec, current_party
from raysplit.cluster.local import LocalCluster


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


async def _value(promise: Any) -> Any:
    return await promise
