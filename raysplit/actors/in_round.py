"""The round that a party is in: it refuses calls of any other, and a second batch of an owner beside the first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from raysplit.actors.records import RoundContext, StaleCall, StepId
from raysplit.cluster.arriving.forms import refused
from raysplit.cluster.contract import current_caller, original
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
        self._check_call(step_id)
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

    def _check(self, step_id: StepId | RoundContext) -> RoundContext:
        context = self._context
        if context is None or step_id.round != context.round or step_id.attempt != context.attempt:
            now = f"round {context.round}, attempt {context.attempt}" if context else "no round"
            raise StaleCall(f"{self.name} is in {now} and refuses {step_id}")
        return context

    def _check_call(self, step_id: StepId) -> None:
        """Refuse a call of another round, or one that an owner makes in the name of another."""
        self._speaks_for(step_id.owner, self._check(step_id), step_id)

    def _speaks_for(self, owner: str, context: RoundContext, at: StepId | RoundContext) -> RoundContext:
        caller = original(current_caller.get())
        if caller != owner and caller in context:
            raise refused(caller, self.name, f"a call in the name of {owner}", at)
        return context
