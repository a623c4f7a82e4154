"""The device a party computes on: whoever wants work done there waits for its turn.

Here work runs at once, in the order of asking. Emulated devices answer to the same contract and take the time that a
described machine would take.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple, Protocol

WorkKind = Literal["forward", "backward", "update", "loss", "average", "affinity"]


class Work(NamedTuple):
    """A piece of work: what kind, for which owner's round and step, on which part of the model (by its number)."""

    kind: WorkKind
    owner: str
    part: int
    round: int = 0
    step: int = 0


class Device(Protocol):
    """Runs one piece of work at a time."""

    def run(self, work: Work, compute: Callable[[], Any]) -> Awaitable[Any]: ...


class Inline:
    """This process's own processor: computes at once."""

    async def run(self, work: Work, compute: Callable[[], Any]) -> Any:
        return compute()
