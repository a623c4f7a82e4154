"""What keeps a run going: a round end to go back to, a watch over every round, and the way back after a loss.

A loss ends the round's attempt. Lost places are made anew, every party is set to the last good round end and the round
is repeated; as all random streams are keyed by round, the weights at the end are those of an undisturbed run.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from raysplit.actors.records import NonFiniteLoss
from raysplit.actors.robust import UpdateRefused
from raysplit.algorithms.base import Algorithm
from raysplit.cluster.contract import Cluster, LinkTraffic, PartySpec, PlaceLost, gather, original
from raysplit.cluster.wire import map_tensors
from raysplit.schedulers.failure import BadUpdate, FailureRules, LostPlace, Standing, Stop, decide
from raysplit.train.checkpoint import Checkpoint, Checkpoints
from raysplit.train.config import RunConfig
from raysplit.train.folder import Row

logger = logging.getLogger(__name__)

T = TypeVar("T")
_ANSWER_S = 5.0
_UNKNOWN = "unknown"


class RoundOverdue(RuntimeError):
    """A round takes longer than it may; the message names whom it waits for."""

    def __init__(self, what: str, waits_for: Sequence[str], detail: str) -> None:
        super().__init__(
            f"{what}, waiting for {detail or 'nobody that is known'}; raise reliability.round_timeout_s or "
            f"stall_timeout_s, or set reliability.on_lost_place to drop to go on without them"
        )
        self.waits_for = tuple(waits_for)


RECOVERABLE = (PlaceLost, NonFiniteLoss, UpdateRefused, RoundOverdue)


def fingerprint(config: RunConfig) -> str:
    """Of all settings that a run's numbers depend on."""
    tree = config.model_dump(mode="json", exclude={"cluster", "output"})
    kept = ("aggregation", "tolerated", "max_update_norm", "over_selection", "round_deadline_s", "late", "quorum")
    tree["reliability"] = {key: tree["reliability"][key] for key in kept}
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


class Safety:
    """Of one run.

    Args:
        parties: all that were deployed, the evaluators among them.
        checkpoints: where round ends are written; None keeps the last one in memory alone.
    """

    def __init__(
        self,
        config: RunConfig,
        algorithm: Algorithm,
        parties: Sequence[PartySpec],
        cluster: Cluster,
        checkpoints: Checkpoints | None,
    ) -> None:
        section = config.reliability
        self._section = section
        self._algorithm = algorithm
        self._parties = parties
        self._own = [party for party in parties if party.role != "evaluator"]
        self._cluster = cluster
        self._checkpoints = checkpoints
        self._rules = FailureRules(**{name: getattr(section, name) for name in FailureRules.__dataclass_fields__})
        forgetful = sorted({p.build.__name__ for p in self._own if not hasattr(p.build, "snapshot")})
        if forgetful and section.checkpoint_every:
            logger.info("no checkpoints: %s cannot say what it goes on from", ", ".join(forgetful))
        # What is kept would travel over the described links of a paced run.
        self.is_on = section.checkpoint_every is not None and not forgetful and config.topology is None
        self.fingerprint = fingerprint(config)
        self.last: Checkpoint | None = None
        self.attempts = 0
        self._restarts_in_round: Counter[int] = Counter()
        self._bad_updates: Counter[str] = Counter()
        self._without: dict[int, set[str]] = {}
        self._excluded: set[str] = set()

    # -- who is left ---------------------------------------------------------------------------------------------

    def candidates(self, owners: Sequence[str]) -> list[str]:
        """Owners that take part at all."""
        return [name for name in owners if name not in self._excluded]

    def left(self, round: int, drawn: Sequence[str]) -> tuple[str, ...]:
        """Of the cohort as drawn, those without whom the round is not to be repeated."""
        return tuple(name for name in drawn if name not in self._without.get(round, ()))

    # -- round ends ----------------------------------------------------------------------------------------------

    async def keep(
        self,
        *,
        rounds: int,
        rows: Sequence[Row],
        traffic: Sequence[LinkTraffic],
        cohort: Sequence[str] = (),
        is_best: bool = False,
    ) -> None:
        """Keep this round end, if it is one to keep."""
        every = self._section.checkpoint_every
        if not self.is_on or not every or (rounds % every and rounds < self._algorithm.num_rounds):
            return
        snapshots = await self._algorithm.snapshots(self._own)
        self.last = Checkpoint(
            fingerprint=self.fingerprint,
            parties=map_tensors(lambda t: t.clone(), snapshots),
            memory=self._algorithm.memory(),
            attempts=self.attempts,
            excluded=sorted(self._excluded),
            rounds=rounds,
            rows=rows,
            traffic=traffic,
            cohort=cohort,
        )
        if self._checkpoints is not None and self.last.rounds:
            await asyncio.to_thread(self._checkpoints.save, self.last, is_best=is_best)

    async def start(self, checkpoint: Checkpoint | None) -> None:
        """Begin after a kept round end, or with parties as they were made."""
        if checkpoint is not None:
            await self.go_to(checkpoint)
        else:
            await self.keep(rounds=0, rows=(), traffic=())

    async def go_to(self, checkpoint: Checkpoint) -> None:
        """Set every party and the coordinator to a kept round end."""
        self.last = checkpoint
        self.attempts = max(self.attempts, checkpoint.attempts)
        self._excluded |= set(checkpoint.excluded)
        await self._algorithm.go_back(self._own, checkpoint.parties, checkpoint.memory)

    # -- a round under watch -------------------------------------------------------------------------------------

    async def watched(self, work: Coroutine[Any, Any, T], round: int) -> T:
        """The work's value; `PlaceLost` or `RoundOverdue` when nobody else would notice."""
        running = asyncio.ensure_future(work)
        watches = {asyncio.ensure_future(watch) for watch in self._watches(round)}
        try:
            done, _ = await asyncio.wait({running, *watches}, return_when=asyncio.FIRST_COMPLETED)
            if running not in done:
                for task in done:
                    task.result()
            return await running
        finally:
            for task in (running, *watches):
                task.cancel()
            await asyncio.wait({running, *watches})

    def _watches(self, round: int) -> list[Coroutine[Any, Any, None]]:
        """Each raises when there is a reason to end the round."""
        section = self._section
        watches = [self._cluster.watch(section.place_timeout_s)]
        if section.round_timeout_s is not None:
            watches.append(self._in_time(round, section.round_timeout_s))
        if section.stall_timeout_s is not None:
            watches.append(self._in_motion(round, section.stall_timeout_s))
        return watches

    async def _in_time(self, round: int, limit_s: float) -> None:
        await asyncio.sleep(limit_s)
        raise await self._overdue(f"round {round} has not ended in {limit_s:g} s", await self._progress())

    async def _in_motion(self, round: int, limit_s: float) -> None:
        """Everybody answers, somebody is in the midst of a round, and nobody has come any further."""
        before: dict[str, Any] = {}
        while True:
            await asyncio.sleep(limit_s)
            now = await self._progress()
            is_at_work = any(step is not None for step in now.values())
            if now == before and is_at_work and _UNKNOWN not in now.values():
                raise await self._overdue(f"nothing has moved in round {round} for {limit_s:g} s", now)
            before = now

    @property
    def _there(self) -> list[PartySpec]:
        return [*self._own, *self._algorithm.latecomers()]

    async def _progress(self) -> dict[str, Any]:
        """The step that every owner is at; None for one that is not in a round."""
        handles = self._algorithm.handles
        owners = [party.name for party in self._there if hasattr(party.build, "progress")]
        return dict(zip(owners, await gather(*[_answer(handles[name].progress()) for name in owners]), strict=True))

    async def _overdue(self, what: str, progress: Mapping[str, Any]) -> RoundOverdue:
        """Who is absent where others wait; where nobody waits, who has not finished."""
        handles = self._algorithm.handles
        others = [party.name for party in self._there if hasattr(party.build, "absent")]
        absent = await gather(*[_answer(handles[name].absent()) for name in others])
        at_work = {name: step for name, step in progress.items() if step is not None}
        names = sorted({name for found in absent if found != _UNKNOWN for name in found} & at_work.keys())
        names = names or sorted(at_work)
        return RoundOverdue(what, names, ", ".join(f"{name} (at step {at_work[name]})" for name in names))

    # -- after a loss --------------------------------------------------------------------------------------------

    async def recover(self, error: Exception, round: int, drawn: Sequence[str]) -> Checkpoint:
        """Heal the cluster and go back to the last kept round end; raises ``error`` where that may not be."""
        while True:
            if not self.is_on:
                raise error
            try:
                await self._repeat(error, round, drawn)
                await self.start(self.last)
            except PlaceLost as another:
                error = another
            else:
                assert self.last is not None
                if self._checkpoints is not None:
                    await asyncio.to_thread(self._checkpoints.drop_after, self.last.rounds)
                return self.last

    async def _repeat(self, error: Exception, round: int, drawn: Sequence[str]) -> None:
        """Decide, and make the cluster whole."""
        place = error.place if isinstance(error, PlaceLost) else ""
        healed = None
        if not isinstance(error, NonFiniteLoss | UpdateRefused) and self._rules.on_lost_place != "stop":
            healed = await self._cluster.heal(self._parties, place, self._section.place_timeout_s)
            self._algorithm.attach(healed.handles, self._cluster)
        failure = self._failure(error, healed.remade if healed else ())
        standing = Standing(
            drawn=tuple(drawn),
            cohort=self.left(round, drawn),
            restarts_in_round=self._restarts_in_round[round],
            restarts_in_run=self.attempts,
        )
        decision = decide(failure, standing, self._rules)
        if isinstance(decision, Stop):
            error.add_note(decision.reason)
            raise error if not isinstance(error, PlaceLost) else RunStopped(decision.reason) from error
        self.attempts += 1
        self._restarts_in_round[round] += 1
        self._without.setdefault(round, set()).update(decision.without)
        self._excluded |= set(decision.exclude)
        if self.last is not None:
            self.last = replace(self.last, excluded=sorted(self._excluded), attempts=self.attempts)
        without = f" without {', '.join(decision.without)}" if decision.without else ""
        first = self.last.rounds + 1 if self.last is not None else 1
        logger.warning("%s; back to round %d and on%s", decision.reason, first, without)

    def _failure(self, error: Exception, remade: tuple[str, ...]) -> LostPlace | BadUpdate:
        if isinstance(error, NonFiniteLoss | UpdateRefused):
            self._bad_updates[error.owner] += 1
            return BadUpdate(owner=error.owner, reason=str(error), times=self._bad_updates[error.owner])
        if isinstance(error, RoundOverdue):
            place, reason, parties = ", ".join(error.waits_for), "it did not come in time", error.waits_for
        else:
            assert isinstance(error, PlaceLost)
            place, reason, parties = error.place, error.reason, remade
        return LostPlace(place=place, reason=reason, parties=tuple({original(name): None for name in parties}))


class RunStopped(RuntimeError):
    """A loss that the rules do not let the run survive; the message says why and what to do."""


async def _answer(promise: Awaitable[Any]) -> Any:
    """What somebody answers before long."""
    try:
        return await asyncio.wait_for(_value(promise), _ANSWER_S)
    except (TimeoutError, PlaceLost):
        return _UNKNOWN


async def _value(promise: Awaitable[Any]) -> Any:
    return await promise
