"""Links between described machines: how long a transfer takes, and what is under way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from raysplit.cluster.clock import Clock
from raysplit.cluster.contract import original
from raysplit.cluster.emulation.events import TRANSFER, EventLog


@dataclass(frozen=True, kw_only=True)
class Interface:
    """A machine's way to the network.

    A transfer takes the latency of both ends and its bytes over the slower of the sender's way up and the receiver's
    way down. Control messages without tensors are free.

    Attributes:
        serial: one transfer at a time in each direction; otherwise each has the whole bandwidth to itself.
    """

    up_bytes_per_s: float = math.inf
    down_bytes_per_s: float = math.inf
    latency_s: float = 0.0
    serial: bool = False

    def __post_init__(self) -> None:
        if not (self.up_bytes_per_s > 0 and self.down_bytes_per_s > 0):
            raise ValueError(
                f"a link carries {self.up_bytes_per_s:g} bytes/s up and {self.down_bytes_per_s:g} down; both must be "
                "more than 0, or leave the bandwidth out for a link that takes no time"
            )
        if not (math.isfinite(self.latency_s) and self.latency_s >= 0):
            raise ValueError(f"a link has a latency of {self.latency_s} s; it cannot be negative")


class _Link(NamedTuple):
    """From one party to another; ``serial`` has the ends that carry one transfer at a time, and until when they do."""

    receiver: str
    name: str
    bytes_per_s: float
    latency_s: float
    serial: tuple[tuple[dict[str, float], str], ...]


Transfer = tuple[float, _Link, float, int]
"""Something under way: when it arrives, over which link, when it began to leave, its bytes."""


class Network:
    """The links between described machines."""

    def __init__(
        self, interfaces: Mapping[str, Interface], clock: Clock, log: EventLog, place_of: Mapping[str, str]
    ) -> None:
        self._interfaces = interfaces
        self._place_of = place_of
        self._clock = clock
        self._log = log
        self._links: dict[tuple[str, str], _Link | None] = {}
        self._up_free_s: dict[str, float] = {}
        self._down_free_s: dict[str, float] = {}

    def now_s(self) -> float:
        """When a value that is made now is made."""
        return self._clock.now_s()

    async def carry(self, source: str, destination: str, num_bytes: int, made_s: float) -> None:
        """Return when that many bytes, ready to leave since ``made_s``, have arrived."""
        transfer = self.depart(source, destination, num_bytes, made_s)
        if transfer is not None:
            await self._clock.reach(transfer[0])
            self.arrived(transfer, self._clock.time_s())

    def depart(self, source: str, destination: str, num_bytes: int, made_s: float) -> Transfer | None:
        """Send that many bytes, ready to leave since ``made_s``; None where it takes no time."""
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
        left_s = start_s + num_bytes / link.bytes_per_s
        for free_s, end in link.serial:
            free_s[end] = left_s
        return left_s + link.latency_s, link, start_s, num_bytes

    def arrived(self, transfer: Transfer, now_s: float) -> None:
        """Log it: it is received at last."""
        _, link, start_s, num_bytes = transfer
        end_s = now_s if now_s > start_s else start_s
        self._log.add((link.receiver, link.name, TRANSFER, "", -1, -1, start_s, end_s, num_bytes))

    def _link(self, source: str, destination: str) -> _Link | None:
        """The link between two parties, found once; None where nothing takes time."""
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
        )
