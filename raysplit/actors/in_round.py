"""The round that a party is in: it refuses calls of any other, and a second batch of an owner beside the first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from raysplit.actors.records import RoundContext, StaleCall, StepId
from raysplit.models.adapters.gap import Terms


class InRound:
    """A party that accepts the calls of one round and attempt."""

    name: str

    def __init__(self) -> None:
        self._context: RoundContext | None = None
        self._lora_gap: Terms | None = None
        self._in_flight: dict[str, StepId] = {}

    def lora_gap(self) -> Terms | None:
        """Return what the latest average of replicas lost, as that of an aggregator."""
        return self._lora_gap

    def _enter(self, step_id: StepId) -> None:
        """Accept an owner's batch: one at a time, which bounds the memory in use on every link."""
        self._check(step_id)
        if step_id.owner in self._in_flight:
            raise StaleCall(f"{step_id.owner} has a batch in flight at {self.name}: {self._in_flight[step_id.owner]}")
        self._in_flight[step_id.owner] = step_id

    @contextmanager
    def _under_way(self, step_id: StepId) -> Iterator[None]:
        self._enter(step_id)
        try:
            yield
        finally:
            if self._in_flight.get(step_id.owner) is step_id:
                del self._in_flight[step_id.owner]

    def _check(self, step_id: StepId) -> None:
        context = self._context
        if context is None or step_id.round != context.round or step_id.attempt != context.attempt:
            now = f"round {context.round}, attempt {context.attempt}" if context else "no round"
            raise StaleCall(f"{self.name} is in {now} and refuses {step_id}")
