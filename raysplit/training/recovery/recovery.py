"""Recovery of a run: checkpoints at the ends of rounds, and the return to the last one after a loss.

A loss ends the attempt at a round. Lost places are started again, every party is set to the last checkpoint, and the
round is repeated. All random streams are keyed by round, so the final weights are those of an undisturbed run.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from raysplit.actors.records import BadValue
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.resumable import Resumable
from raysplit.algorithms.route import Route
from raysplit.cluster.arriving.forms import at_coordinator
from raysplit.cluster.contract import Cluster, Handle, LinkTraffic, PartySpec, PlaceLost, gather
from raysplit.cluster.links.tensors import map_tensors
from raysplit.disk import NotWritten
from raysplit.experiment.experiment import Experiment
from raysplit.experiment.fingerprint import fingerprint, numbers_depend_on
from raysplit.experiment.rules import ReliabilityRules
from raysplit.runs.folder import Row
from raysplit.schedulers.failure import LostPlace, Standing, Stop, decide
from raysplit.training.recovery.checkpoint import Checkpoint, Checkpoints
from raysplit.training.recovery.expected import AtCoordinator
from raysplit.training.recovery.failures import OF_VALUES, Failures, RunStopped
from raysplit.training.recovery.failures import RECOVERABLE as RECOVERABLE
from raysplit.training.recovery.members import Everybody, Members
from raysplit.training.recovery.start import misfits_named, require_model, require_parties, require_same_form, snapshot
from raysplit.training.recovery.watch import RoundOverdue, attended

logger = logging.getLogger(__name__)

T = TypeVar("T")


async def deployed(parties: Sequence[PartySpec], cluster: Cluster, rules: ReliabilityRules) -> Mapping[str, Handle]:
    """Deploy parties and return their handles; a place that is lost during this is started again once."""
    try:
        return await cluster.deploy(parties)
    except PlaceLost as lost:
        if rules.on_lost_place == "stop":
            raise
        logger.warning("%s; it is started again", lost)
        return (await cluster.repair(parties, lost.place, rules.place_timeout_s)).handles


async def closed(cluster: Cluster) -> None:
    """Close the cluster of a run that is over: what fails then is told, and changes nothing of the run."""
    try:
        await cluster.close()
    except Exception as error:
        logger.warning("the run is over, and its places could not be ended: %s", error)


class Safety:
    """Checkpoints and recovery of a run.

    Args:
        experiment: the description of the run.
        algorithm: the algorithm, attached to the cluster.
        parties: all deployed parties, with the evaluators.
        cluster: the cluster that the parties are on.
        checkpoints: the files of checkpoints; None keeps the last checkpoint only in memory.
        members: the members of the run before each round.
        kept: a function that is called with the rounds and the location of every checkpoint that was written.
    """

    def __init__(
        self,
        experiment: Experiment,
        algorithm: Algorithm,
        parties: Sequence[PartySpec],
        cluster: Cluster,
        checkpoints: Checkpoints | None,
        members: Everybody | Members,
        kept: Callable[[int, str], None] = lambda *_: None,
    ) -> None:
        rules = experiment.reliability
        self._rules = rules
        self._algorithm = algorithm
        self._parties = parties
        self._own = [party for party in parties if party.role != "evaluator"]
        self._cluster = cluster
        self._checkpoints = checkpoints
        self._members = members
        self._kept = kept
        stateless = sorted({p.build.__name__ for p in self._own if not hasattr(p.build, "state_dict")})
        if stateless and rules.checkpoint_every:
            logger.info("no checkpoints: %s has no state_dict", ", ".join(stateless))
        # In a paced or watched run, checkpoints would be sent over the described links and change the measurement.
        unobserved = experiment.topology is None or experiment.elastic is not None
        self.is_on = rules.checkpoint_every is not None and not stateless and unobserved
        self.fingerprint, self.settings = fingerprint(experiment.plain), numbers_depend_on(experiment.plain)
        self.last: Checkpoint | None = None
        self.attempts = 0
        self._num_written = 0
        self._restarts_in_round: Counter[int] = Counter()
        self._failures = Failures(algorithm)
        self._without: dict[int, set[str]] = {}
        self._excluded: set[str] = set()

    # -- owners that take part ------------------------------------------------------------------------------------

    def candidates(self, owners: Sequence[str], round: int) -> list[str]:
        """Return the owners that may be drawn."""
        there = self._members.among(owners, sorted(self._without.get(round, ())))
        return [name for name in there if name not in self._excluded]

    def left(self, round: int, drawn: Sequence[str]) -> tuple[str, ...]:
        """Return the drawn cohort without the owners that a repeated round leaves out."""
        return tuple(name for name in drawn if name not in self._without.get(round, ()))

    # -- checkpoints ---------------------------------------------------------------------------------------------

    async def keep(
        self,
        *,
        rounds: int,
        rows: Sequence[Row],
        traffic: Sequence[LinkTraffic],
        cohort: Sequence[str] = (),
        is_best: bool = False,
    ) -> None:
        """Keep a checkpoint of a round where the rules ask for one."""
        every = self._rules.checkpoint_every
        if not self.is_on or not every or (rounds % every and rounds < self._algorithm.num_rounds):
            return
        await self._keep(rounds, rows, traffic, cohort)
        if self._checkpoints is not None and rounds:
            await self._write(self._checkpoints, is_best)

    async def _write(self, checkpoints: Checkpoints, is_best: bool) -> None:
        assert self.last is not None
        try:
            await asyncio.to_thread(checkpoints.save, self.last, is_best=is_best)
        except NotWritten:
            raise  # by this machine's disk, which would not take what follows either
        except OSError as error:
            if not self._num_written:
                raise  # a wrong location ends the run at once; a store elsewhere that fails later may come back
            logger.warning("the checkpoint of round %d could not be written: %s", self.last.rounds, error)
        else:
            self._num_written += 1
            self._kept(self.last.rounds, checkpoints.location)

    async def _keep(
        self, rounds: int, rows: Sequence[Row], traffic: Sequence[LinkTraffic], cohort: Sequence[str] = ()
    ) -> None:
        # the state of an absent party is the one of the last checkpoint with it
        before = self.last.parties if self.last is not None else {}
        states = await self._attended(self._algorithm.party_states(self._present))
        absent = [p.name for p in self._own if p.name not in self._algorithm.handles]
        states |= {name: before[name] for name in absent if name in before}
        self.last = snapshot(
            self._algorithm,
            fingerprint=self.fingerprint,
            parties=map_tensors(lambda t: t.clone(), states),
            attempts=self.attempts,
            excluded=sorted(self._excluded),
            settings=self.settings,
            rounds=rounds,
            rows=rows,
            traffic=traffic,
            cohort=cohort,
        )

    @property
    def _present(self) -> list[PartySpec]:
        return [party for party in self._own if party.name in self._algorithm.handles]

    async def begin(self, checkpoint: Checkpoint | None) -> None:
        """Wait until the first round may start, and restore ``checkpoint`` where there is one."""
        at_coordinator.set(AtCoordinator(self._algorithm, self._own))
        settled = await self._members.settle(checkpoint.rows if checkpoint else ())
        if checkpoint is None:
            await self.keep(rounds=0, rows=(), traffic=())
        kept = checkpoint or (self.last if settled.route else None)
        if checkpoint is not None:
            await self._go_to_file(checkpoint, settled.route)
        elif kept is not None:
            await self._go_to(kept, settled.route)

    async def take_in(self, rows: Sequence[Row], traffic: Sequence[LinkTraffic]) -> None:
        """Wait until a round may start, restore the state of new members, and move parts where needed."""
        settled = await self._members.settle(rows)
        if settled.route is not None:
            if self.last is None or self.last.rounds < len(rows):
                await self._keep(len(rows), rows, traffic)
            assert self.last is not None
            await self._go_to(self.last, settled.route)
        elif self.last is not None:
            kept = self.last.parties
            known = [name for name in settled.newcomers if name in kept and name in self._algorithm.handles]
            await gather(*[self._algorithm.party(name).load_state_dict(kept[name]) for name in known])

    async def _go_to(self, checkpoint: Checkpoint, route: Route | None) -> None:
        """Restore every party and the coordinator from a checkpoint, with the parts on ``route`` where it is given."""
        if route is not None:
            self._algorithm.take_route(route)
        self.last = checkpoint
        self.attempts = max(self.attempts, checkpoint.attempts)
        self._excluded |= set(checkpoint.excluded)
        await self._attended(self._algorithm.load_party_states(self._present, checkpoint.parties, checkpoint.memory))

    async def _go_to_file(self, checkpoint: Checkpoint, route: Route | None) -> None:
        """Restore a checkpoint that was read from a file; raise `CheckpointRefused` where it does not fit the run."""
        algorithm, kept = self._algorithm, checkpoint.parties
        is_fixed = isinstance(self._members, Everybody) and not algorithm.on_offer
        require_model(checkpoint, algorithm)
        with misfits_named(but=RECOVERABLE):
            if is_fixed and type(algorithm).party_states is Resumable.party_states:
                require_parties(kept, algorithm.durable(self._present))
            await self._go_to(checkpoint, route)
            loaded = await self._attended(algorithm.party_states(self._present))
        require_same_form(kept, loaded if is_fixed else kept, "parties")
        require_same_form(checkpoint.memory, algorithm.state_dict(), "memory")

    async def _attended(self, work: Coroutine[Any, Any, T]) -> T:
        """Await the work; raise `PlaceLost` when a place stops answering, and `RoundOverdue` when a party does."""
        return await attended(work, self._cluster.watch(self._rules.place_timeout_s), self._answered())

    async def _answered(self) -> None:
        """Raise `RoundOverdue` when giving or taking states takes longer than the limit for a stalled round."""
        limit_s = self._rules.stall_timeout_s
        if limit_s is None:
            await asyncio.get_running_loop().create_future()
            return
        await asyncio.sleep(limit_s)
        names = sorted(self._algorithm.awaited)
        raise RoundOverdue(f"between two rounds nothing has come for {limit_s:g} s", names, ", ".join(names))

    # -- after a loss --------------------------------------------------------------------------------------------

    async def recover(self, error: Exception, round: int, drawn: Sequence[str]) -> Checkpoint:
        """Repair the cluster and return to the last checkpoint; raise ``error`` where the rules do not allow it."""
        if isinstance(error, BadValue) and error.round is None:
            error.add_note(f"in round {round + 1}")
        while True:
            if not self.is_on:
                raise error
            try:
                lost = await self._repeat(error, round, drawn)
            except PlaceLost as another:
                error = another
                continue
            try:
                await self._start_again(lost)
            except (PlaceLost, RoundOverdue) as another:
                error = another
                continue
            assert self.last is not None
            if self._checkpoints is not None:
                await asyncio.to_thread(self._checkpoints.drop_after, self.last.rounds)
            return self.last

    async def _start_again(self, lost: Sequence[str]) -> None:
        """Restore the last checkpoint, without the lost parties that do not come back."""
        if self.last is None:
            await self.begin(None)
        else:
            settled = await self._members.settle(self.last.rows, awaited=lost)
            await self._go_to(self.last, settled.route)

    async def _repeat(self, error: Exception, round: int, drawn: Sequence[str]) -> tuple[str, ...]:
        """Repair the cluster and decide; return the lost parties that the round waits for."""
        place = error.place if isinstance(error, PlaceLost) else ""
        repaired = None
        if not isinstance(error, OF_VALUES) and self._rules.on_lost_place != "stop":
            repaired = await self._cluster.repair(self._parties, place, self._rules.place_timeout_s)
            self._algorithm.attach(repaired.handles, self._cluster)
        failure = await self._failures.of(error, repaired.remade if repaired else ())
        standing = Standing(
            drawn=tuple(drawn),
            cohort=self.left(round, drawn),
            restarts_in_round=self._restarts_in_round[round],
            restarts_in_run=self.attempts,
        )
        decision = decide(failure, standing, self._rules)
        if isinstance(decision, Stop):
            error.add_note(decision.way_out)
            raise error if not isinstance(error, PlaceLost) else RunStopped(decision.reason) from error
        self.attempts += 1
        self._restarts_in_round[round] += 1
        self._without.setdefault(round, set()).update(decision.without)
        self._excluded |= set(decision.exclude)
        if self.last is not None:
            self.last = replace(self.last, excluded=sorted(self._excluded), attempts=self.attempts)
        without = f" without {', '.join(decision.without)}" if decision.without else ""
        first = self.last.rounds + 1 if self.last is not None else 1
        logger.warning("%s; repeating from round %d%s", decision.reason, first, without)
        return failure.parties if isinstance(failure, LostPlace) and not decision.without else ()
