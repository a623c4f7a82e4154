"""Emulation of machines: parties compute and send as fast as on described devices and links.

The same code has two uses. On a `VirtualLoop` it is a discrete-event simulator, in which parties need not compute
anything; on the wall clock it paces a real run. Both run the algorithm's own coroutines and write an `EventLog`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raysplit.cluster.clock import Clock
from raysplit.cluster.contract import PartySpec, original
from raysplit.cluster.device import Device, Work, WorkKind
from raysplit.cluster.device_queue import WorkQueue
from raysplit.cluster.emulation.coding import Coder, Rates
from raysplit.cluster.emulation.events import EventLog, Lateness
from raysplit.cluster.emulation.network import Interface, Network

Costs = Mapping[tuple[int, WorkKind], float]
"""Seconds per batch, by number of the model's part and kind of work."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The described machine of one party.

    Attributes:
        device: name of the processor; parties with the same device take turns on it.
        costs: seconds of the party's work.
        owner_costs: seconds of the work for single owners, instead of ``costs``.
        interface: connection of the machine to the network.
        policy: name of the device's queue policy (`raysplit.schedulers.queue`).
        coding_slowdown: factor on the seconds of codecs.
        host: name of a host whose cores the device shares with other devices, or None.
    """

    device: str
    costs: Costs = field(default_factory=dict)
    owner_costs: Mapping[str, Costs] = field(default_factory=dict)
    interface: Interface = field(default_factory=Interface)
    policy: str = "fifo"
    coding_slowdown: float = 1.0
    host: str | None = None

    def seconds(self, work: Work) -> float:
        """Return the seconds that a piece of work takes."""
        if work.kind == "encode" or work.kind == "decode":
            return work.part * 1e-9 * self.coding_slowdown
        costs = self.owner_costs.get(work.owner, self.costs) if self.owner_costs else self.costs
        return work.batches * costs[work.part, work.kind]


class Emulation:
    """The described machines of a run; every place has a copy with a log of its own.

    Args:
        machines: machines by name of the party; parties without one take no time.
        clock: clock on which work and transfers take time.
        host_cores: number of devices of each host that can work at the same time.
        place_of: name of each party's place; transfers within a place take no time.
        rates: rates of the codecs of the run; None takes no time for them.

    Attributes:
        log: events of this place.
        network: links between the machines.
        unshared: constructor of the devices that share no host.
    """

    def __init__(
        self,
        machines: Mapping[str, Machine],
        clock: Clock,
        *,
        host_cores: Mapping[str, int] | None = None,
        place_of: Mapping[str, str] | None = None,
        rates: Rates | None = None,
    ) -> None:
        self.clock = clock
        self.log = EventLog()
        interfaces = {party: machine.interface for party, machine in machines.items()}
        self.network = Network(interfaces, clock, self.log, place_of or {})
        if rates is not None:
            self.network.coder = Coder(rates, self._own_device)
        self._machines = machines
        self._host_cores = host_cores or {}
        self._queues: dict[str, WorkQueue] = {}
        self._hosts: dict[str, asyncio.Semaphore] = {}
        self.unshared: MakeDevice = PacedDevice

    def equip(self, parties: Sequence[PartySpec]) -> list[PartySpec]:
        """Return the parties with devices of their machines; a copy of a party shares the device of its original."""
        return [
            replace(party, arguments={**party.arguments, "device": self.device(party.name)})
            if original(party.name) in self._machines and party.role in ("owner", "node")
            else party
            for party in parties
        ]

    @property
    def has_hosts(self) -> bool:
        """Whether devices share the cores of a host."""
        return any(machine.host is not None for machine in self._machines.values())

    @property
    def policies(self) -> dict[str, str]:
        """Names of the queue policies by device."""
        found: dict[str, str] = {}
        for machine in self._machines.values():
            found.setdefault(machine.device, machine.policy)
        return found

    def _own_device(self, party: str) -> Device | None:
        return self.device(party) if original(party) in self._machines else None

    def device(self, party: str) -> Device:
        """Return a party's device; parties with the same device share its queue."""
        machine = self._machines[original(party)]
        queue = self._queues.setdefault(machine.device, WorkQueue(machine.policy))
        if machine.host is None:
            return self.unshared(party=party, machine=machine, queue=queue, clock=self.clock, log=self.log)
        cores = self._host_cores[machine.host]
        host = self._hosts.setdefault(machine.host, asyncio.Semaphore(cores))
        return PacedDevice(party=party, machine=machine, queue=queue, clock=self.clock, log=self.log, host=host)


MakeDevice = Callable[..., Device]
"""A constructor with the arguments of `PacedDevice` except ``host``."""

Emulate = Callable[[Sequence[PartySpec]], Emulation]
"""A function that describes the machines of the parties to be deployed."""


class PacedDevice:
    """A device that computes and then waits until the described machine would have finished."""

    def __init__(
        self,
        *,
        party: str,
        machine: Machine,
        queue: WorkQueue,
        clock: Clock,
        log: EventLog,
        host: asyncio.Semaphore | None = None,
    ) -> None:
        self._party = party
        self._machine = machine
        self._queue = queue
        self._clock = clock
        self._log = log
        self._host = host

    async def run(self, work: Work, compute: Callable[[], Any]) -> Any:
        await self._queue.turn(work)
        try:
            if self._host is None:
                return await self._perform(work, compute)
            async with self._host:
                return await self._perform(work, compute)
        finally:
            self._queue.leave()

    async def _perform(self, work: Work, compute: Callable[[], Any]) -> Any:
        clock, queue, machine = self._clock, self._queue, self._machine
        began_s = clock.time_s()
        starts_s = max(clock.now_s(), queue.free_s)
        result = compute()
        described_s = machine.seconds(work)
        if described_s > 0:  # else there is no time to keep
            self._note_lateness(work.round, clock.time_s(), starts_s + described_s, began_s + described_s)
        await clock.reach(starts_s + described_s)
        queue.free_s = clock.now_s()
        kind, owner, _, round, step, _ = work
        self._log.add((self._party, machine.device, kind, owner, round, step, began_s, clock.time_s(), 0))
        return result

    def _note_lateness(self, round: int, ready_s: float, due_s: float, soonest_s: float) -> None:
        late_s = max(0.0, ready_s - due_s)
        step = Lateness(
            num_steps=1,
            num_late=int(late_s > 0),
            num_too_slow=int(ready_s > soonest_s),
            late_s=late_s,
            worst_late_s=late_s,
        )
        self._log.add_lateness(self._party, round, step)
