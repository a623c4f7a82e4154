"""Seconds of encoding and decoding on described machines, as work in the queue of the machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from raysplit.cluster.device import Device, Work, WorkKind


@dataclass(frozen=True, kw_only=True)
class CodingRate:
    """What a codec costs on the machine that it was measured on.

    Attributes:
        encode_s_per_byte, decode_s_per_byte: seconds for each byte of the values that are coded.
    """

    encode_s_per_byte: float
    decode_s_per_byte: float


class Rates(Protocol):
    """The rates of the codecs of a run."""

    def rate(self, source: str, kind: str, step: Any = None) -> CodingRate | None:
        """Return the rate of what a party sends of this kind in a step; None if it is not coded."""
        ...


class Coder:
    """Spends the seconds of codecs on the machines of the parties.

    Args:
        rates: rates of the codecs.
        device: function that returns the device of a party, or None for a party without a described machine.
    """

    def __init__(self, rates: Rates, device: Callable[[str], Device | None]) -> None:
        self._rates = rates
        self._device = device
        self._devices: dict[str, Device | None] = {}
        self._begun: Any = None

    def begin(self, step: Any) -> None:
        """Note the round that begins, for values of calls that do not say theirs."""
        self._begun = step

    async def encode(self, source: str, destination: str, kind: str, num_bytes: int, step: Any) -> None:
        """Take the seconds in which ``source`` encodes values of so many bytes."""
        rate = self._rate(source, destination, kind, step)
        if rate is not None:
            await self._work(source, "encode", rate.encode_s_per_byte * num_bytes, step)

    async def decode(self, source: str, destination: str, kind: str, num_bytes: int, step: Any) -> None:
        """Take the seconds in which ``destination`` decodes them."""
        rate = self._rate(source, destination, kind, step)
        if rate is not None:
            await self._work(destination, "decode", rate.decode_s_per_byte * num_bytes, step)

    def _rate(self, source: str, destination: str, kind: str, step: Any) -> CodingRate | None:
        return None if source == destination else self._rates.rate(source, kind, self._begun if step is None else step)

    async def _work(self, party: str, kind: WorkKind, seconds: float, step: Any) -> None:
        if party not in self._devices:
            self._devices[party] = self._device(party)
        device = self._devices[party]
        if device is None:
            return
        nanoseconds, in_round = round(seconds * 1e9), getattr(step, "round", -1)
        work = Work(kind, getattr(step, "owner", ""), nanoseconds, in_round, getattr(step, "step", -1))
        await device.run(work, _nothing)


def _nothing() -> None:
    """Compute nothing: the link codes the values."""
