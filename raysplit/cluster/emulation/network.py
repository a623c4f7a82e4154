"""The emulated network: links between described machines, and the times of transfers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from raysplit.cluster.clock import Clock
from raysplit.cluster.contract import original
from raysplit.cluster.emulation.coding import Coder
from raysplit.cluster.emulation.events import TRANSFER, EventLog
from raysplit.cluster.emulation.trace import LinkTrace, State, sent_at, state_at


@dataclass(frozen=True, kw_only=True)
class Interface:
    """The connection of a machine to the network.

    A transfer takes the latencies of both ends, plus its bytes divided by the smaller of the sender's upload and the
    receiver's download bandwidth. Messages without tensors take no time.

    Attributes:
        up_bytes_per_s: upload bandwidth.
        down_bytes_per_s: download bandwidth.
        latency_s: latency of this end in seconds.
        serial: whether each direction carries one transfer at a time; otherwise each has the whole bandwidth.
        trace: how bandwidths and latency change, instead of the constant ones, which are its means then.

    Raises:
        ValueError: for a bandwidth that is not above 0, or a negative or infinite latency.
    """

    up_bytes_per_s: float = math.inf
    down_bytes_per_s: float = math.inf
    latency_s: float = 0.0
    serial: bool = False
    trace: LinkTrace | None = None

    def __post_init__(self) -> None:
        if not (self.up_bytes_per_s > 0 and self.down_bytes_per_s > 0):
            raise ValueError(
                f"the bandwidths of a link must be above 0, got {self.up_bytes_per_s:g} bytes/s up and "
                f"{self.down_bytes_per_s:g} bytes/s down; leave them out for a link with unlimited bandwidth"
            )
        if not (math.isfinite(self.latency_s) and self.latency_s >= 0):
            raise ValueError(f"the latency of a link must be finite and at least 0, got {self.latency_s} s")

    @property
    def over_time(self) -> tuple[LinkTrace | None, State]:
        """The trace, and the state where there is none."""
        return self.trace, State(self.up_bytes_per_s, self.down_bytes_per_s, self.latency_s, math.inf)


class _Link(NamedTuple):
    """A link from one party to another.

    ``serial`` has an entry for each end that carries one transfer at a time: a table of the times at which ends become
    free, and the name of the end in it. ``changing`` has both ends where one of them changes over time.
    """

    receiver: str
    name: str
    bytes_per_s: float
    latency_s: float
    serial: tuple[tuple[dict[str, float], str], ...]
    changing: tuple[Interface, Interface] | None


Transfer = tuple[float, _Link, float, int]
"""A transfer in progress: arrival time, link, start time, bytes."""


class Network:
    """The links between described machines.

    Attributes:
        coder: spends the seconds of codecs; None takes no time for them.
    """

    def __init__(
        self, interfaces: Mapping[str, Interface], clock: Clock, log: EventLog, place_of: Mapping[str, str]
    ) -> None:
        self.coder: Coder | None = None
        self._interfaces = interfaces
        self._place_of = place_of
        self._clock = clock
        self._log = log
        self._links: dict[tuple[str, str], _Link | None] = {}
        self._up_free_s: dict[str, float] = {}
        self._down_free_s: dict[str, float] = {}

    def now_s(self) -> float:
        """Return the time at which a value that is computed now becomes ready to send."""
        return self._clock.now_s()

    async def carry(self, source: str, destination: str, num_bytes: int, made_s: float) -> None:
        """Wait until that many bytes, ready to send since ``made_s``, have arrived."""
        transfer = self.depart(source, destination, num_bytes, made_s)
        if transfer is not None:
            await self._clock.reach(transfer[0])
            self.arrived(transfer, self._clock.time_s())

    def depart(self, source: str, destination: str, num_bytes: int, made_s: float) -> Transfer | None:
        """Start a transfer of bytes that are ready since ``made_s``; return None if it takes no time."""
        ends = source, destination
        try:
            link = self._links[ends]
        except KeyError:
            link = self._links[ends] = self._link(source, destination)
        if link is None:
            return None
        start_s = made_s
        for free_s, end in link.serial:
            start_s = max(start_s, free_s.get(end, 0.0))
        latency_s = link.latency_s
        if link.changing is None:
            left_s = start_s + num_bytes / link.bytes_per_s
        else:
            sender, receiver = (end.over_time for end in link.changing)
            left_s = sent_at(start_s, num_bytes, sender, receiver)
            latency_s = state_at(sender, left_s).latency_s + state_at(receiver, left_s).latency_s
        for free_s, end in link.serial:
            free_s[end] = left_s
        return left_s + latency_s, link, start_s, num_bytes

    def arrived(self, transfer: Transfer, now_s: float) -> None:
        """Log a transfer that has been received."""
        _, link, start_s, num_bytes = transfer
        end_s = now_s if now_s > start_s else start_s
        self._log.add((link.receiver, link.name, TRANSFER, "", -1, -1, start_s, end_s, num_bytes))

    def _link(self, source: str, destination: str) -> _Link | None:
        """Return the link between two parties, or None if transfers between them take no time."""
        sender, receiver = original(source), original(destination)
        up, down = self._interfaces.get(sender), self._interfaces.get(receiver)
        place_of = self._place_of
        if up is None or down is None or place_of.get(sender, sender) == place_of.get(receiver, receiver):
            return None
        serial = [(self._up_free_s, sender)] if up.serial else []
        serial += [(self._down_free_s, receiver)] if down.serial else []
        return _Link(
            receiver=receiver,
            name=f"{sender} -> {receiver}",
            bytes_per_s=min(up.up_bytes_per_s, down.down_bytes_per_s),
            latency_s=up.latency_s + down.latency_s,
            serial=tuple(serial),
            changing=None if up.trace is down.trace is None else (up, down),
        )
