"""The interface of the device that a party computes on, and the plain one: this process's processor.

Emulated devices (`raysplit.cluster.emulation.machines`) implement the same interface and take the time that a described
machine would take.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple, Protocol

WorkKind = Literal["forward", "backward", "update", "loss", "average", "affinity", "encode", "decode"]


class Work(NamedTuple):
    """A piece of work: its kind, the owner, the number of the model's part, the owner's round and step, and the number
    of batches.

    To encode and decode, ``part`` is the nanoseconds of the work on the machine on which the codec was measured.
    """

    kind: WorkKind
    owner: str
    part: int
    round: int = 0
    step: int = 0
    batches: int = 1


class Device(Protocol):
    """A device that runs one piece of work at a time and returns what ``compute`` returns."""

    def run(self, work: Work, compute: Callable[[], Any]) -> Awaitable[Any]: ...


class Inline:
    """This process's processor; it computes at once, in the order of the calls."""

    async def run(self, work: Work, compute: Callable[[], Any]) -> Any:
        return compute()
