"""The round that a party is in: it refuses calls of any other, and a second batch of an owner beside the first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from raysplit.actors.barrier import Turns
from raysplit.actors.records import RoundContext, StaleCall, StepId, is_ahead
from raysplit.cluster.arriving.forms import refused
from raysplit.cluster.arriving.words import shown
from raysplit.cluster.contract import current_caller, original
from raysplit.models.adapters.gap import Terms


class InRound:
    """A party that accepts the calls of one round and attempt."""

    name: str

    def __init__(self) -> None:
        self._context: RoundContext | None = None
        self._lora_gap: Terms | None = None
        self._in_flight: dict[str, StepId] = {}
        self._begun: dict[str, tuple[int, int]] = {}  # step and micro-batch of each owner's latest batch

    def lora_gap(self) -> Terms | None:
        """Return what the latest average of replicas lost, as that of an aggregator."""
        return self._lora_gap

    def _enter(self, step_id: StepId) -> None:
        """Accept an owner's batch: one at a time, which bounds the memory in use on every link, and each once."""
        context, owner, step = self._check_call(step_id), step_id.owner, step_id.step
        if owner not in context:
            raise refused(owner, self.name, "a batch, and it is not in the cohort", context)
        if type(step) is not int or not 0 <= step < context.steps(owner):
            raise refused(owner, self.name, f"a batch of a step that is none of its {context.steps(owner)}", context)
        if owner in self._in_flight:
            raise StaleCall(f"{owner} has a batch in flight at {self.name}: {self._in_flight[owner]}")
        if (step, step_id.micro) <= self._begun.get(owner, (-1, 0)):
            raise refused(owner, self.name, "a batch of a step that it has sent one of before", step_id)
        self._in_flight[owner], self._begun[owner] = step_id, (step, step_id.micro)

    def _forget_batches(self) -> None:
        """Forget the batches of the latest round and attempt."""
        self._in_flight.clear()
        self._begun.clear()

    async def _comes(self, turns: Turns, turn: int, step_id: StepId) -> None:
        """Wait for the turn of an owner's batch."""
        if not turns.may_come(turn, sum(self._check(step_id).num_steps)):
            raise refused(step_id.owner, self.name, f"a batch for turn {turn}, which is over or none", step_id)
        await turns.comes(turn)

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
        if not isinstance(step_id, StepId | RoundContext):
            raise refused(current_caller.get(), self.name, f"a call with {shown(step_id)} for its step", context)
        if context is None or (step_id.round, step_id.attempt) != (context.round, context.attempt):
            raise self._stale(step_id, context)
        return context

    def _stale(self, at: StepId | RoundContext, context: RoundContext | None) -> Exception:
        """Return the error for a call of another round: a late one may be honest, one from the future may not.

        Nor may a late one of an owner that has already called in this round.
        """
        caller = current_caller.get()
        if context is not None and caller in context and (caller in self._begun or is_ahead(at, context)):
            return refused(caller, self.name, "a call of another round than the present one", context)
        now = f"round {context.round}, attempt {context.attempt}" if context else "no round"
        return StaleCall(f"{self.name} is in {now} and refuses {at}")

    def _check_call(self, step_id: StepId) -> RoundContext:
        """Refuse a call of another round, or one that an owner makes in the name of another; return the round."""
        context = self._check(step_id)
        return self._speaks_for(step_id.owner, context, step_id)

    def _speaks_for(self, owner: str, context: RoundContext, at: StepId | RoundContext) -> RoundContext:
        caller = original(current_caller.get())
        if caller != owner and caller in context:
            raise refused(caller, self.name, f"a call in the name of {owner}", at)
        return context
