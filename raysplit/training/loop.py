"""The training loop: deploy, run rounds, evaluate, record, stop and export."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
from torch import Tensor

from raysplit.actors.expecting.forms import whole_state
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.sent_inputs import log_placed_cuts
from raysplit.cluster.contract import Cluster, LinkTraffic
from raysplit.cluster.links.traffic import IdleCodecs, difference, merge_traffic
from raysplit.data.transforms import normalisation
from raysplit.disk import NotWritten
from raysplit.experiment.experiment import Experiment
from raysplit.guards.account.ledger import let_go
from raysplit.models.classifier.export import export_trained
from raysplit.models.classifier.spec import ClassifierSpec
from raysplit.runs.callback import Callback, Callbacks
from raysplit.runs.folder import DIVERGED, Row, RunFolder
from raysplit.runs.metric import to_targets
from raysplit.runs.result import CUT_SHORT, Meter, Result
from raysplit.runs.rows import Ledger, with_statements
from raysplit.training.controls import Controls
from raysplit.training.divergence import measure_divergence, measure_round
from raysplit.training.evaluating import Tested, codecs_at_cuts, evaluated
from raysplit.training.metrics import is_best, owner_table, stop_reason, task_summary, validated, wanted_targets
from raysplit.training.model_checks import checked_parties
from raysplit.training.preflight import deployed_parties, expected_needs, refuse_too_little
from raysplit.training.recovery.checkpoint import Checkpoint, Checkpoints
from raysplit.training.recovery.members import Everybody, Members, members_of
from raysplit.training.recovery.recovery import RECOVERABLE, Safety, closed, deployed
from raysplit.training.recovery.watch import Watch
from raysplit.training.writing import begin_folder, merged

logger = logging.getLogger(__name__)


async def run(
    experiment: Experiment,
    cluster: Cluster,
    *,
    folder: RunFolder | None = None,
    callbacks: Sequence[Callback] = (),
    meter: Meter | None = None,
    resources: Mapping[str, float] | None = None,
    checkpoints: Checkpoints | None = None,
    start: Checkpoint | None = None,
    checked: bool = False,
) -> Result:
    """Train the experiment on a cluster, and close the cluster at the end.

    After an error, the folder has the metrics of every round and the weights of the last good round in ``model.pt``.

    Args:
        experiment: the description of the run.
        cluster: the cluster for the parties.
        folder: the run folder to write; None records nothing.
        callbacks: called for the events of the run.
        meter: receives the traffic and load of every round.
        resources: the resources of the Ray cluster, which the run is checked against and which are recorded.
        checkpoints: the files of checkpoints; None keeps the last checkpoint only in memory.
        start: the checkpoint to continue from; None starts with the first round.
        checked: whether `checked_parties` has accepted this experiment before.
    """
    notify = Callbacks(callbacks, experiment.reliability.on_callback_error)
    try:
        try:
            experiment.require_codecs()
            algorithm = experiment.begin(folder.path if folder else None)
            parties = deployed_parties(algorithm) if checked else checked_parties(algorithm, experiment.setting.spec)
            log_placed_cuts(algorithm)
            if experiment.reliability.preflight and resources and experiment.elastic is None:
                refuse_too_little(expected_needs(experiment, algorithm, parties, resources), resources)
            notify.stage_began("deploy")
            algorithm.attach(await deployed(parties, cluster, experiment.reliability), cluster)
            if folder is not None:
                begin_folder(folder, experiment, resources or {})
            if meter is not None:
                meter.deployed(parties)
            members = members_of(experiment, algorithm, parties, cluster)
            safety = Safety(experiment, algorithm, parties, cluster, checkpoints, members, notify.checkpoint_kept)
            notify.run_started(experiment)
            watch = Watch(experiment.reliability, algorithm, [p for p in parties if p.role != "evaluator"], cluster)
            loop = _Loop(experiment, algorithm, cluster, safety, members, watch, folder, notify, meter)
            result = await loop.run(start)
        finally:
            await closed(cluster)
            let_go(experiment.ledgers_in(folder.path if folder else None))
    except BaseException as error:
        notify.run_failed(error)
        raise
    notify.run_ended(result)
    return result


class _Loop:
    def __init__(
        self,
        experiment: Experiment,
        algorithm: Algorithm,
        cluster: Cluster,
        safety: Safety,
        members: Everybody | Members,
        watch: Watch,
        folder: RunFolder | None,
        callbacks: Callbacks,
        meter: Meter | None,
    ) -> None:
        self._experiment = experiment
        self._algorithm = algorithm
        self._cluster = cluster
        self._safety = safety
        self._members = members
        self._watch = watch
        self._folder = folder
        self._callbacks = callbacks
        self._meter = meter
        self._ledger = Ledger()
        self._at_cuts = codecs_at_cuts(experiment, algorithm)
        self._states: Mapping[str, Mapping[str, Tensor]] = {}
        self._controls = Controls(experiment)
        self._tested: Tested | None = None
        self._idle = IdleCodecs(experiment.link_rules())

    async def run(self, start: Checkpoint | None) -> Result:
        try:
            await self._begin(start)
            while (over := self._over()) is None:
                await self._attempt(len(self._ledger.rows))
        except BaseException as error:
            if self._saved(error) and isinstance(error, ArithmeticError) and (reached := self._reached()):
                error.add_note(reached)
            raise
        self._callbacks.stage_began("write")
        self._save(over)
        return Result(
            rows=tuple(self._ledger.rows),
            states=self._states,
            links=tuple(self._ledger.traffic),
            stopped=over,
            folder=self._folder.path if self._folder else None,
            specs={label: self._algorithm.spec_of(label) for label in self._states},
        )

    async def _begin(self, start: Checkpoint | None) -> None:
        try:
            await self._safety.begin(start)
        except RECOVERABLE as lost:
            await self._safety.recover(lost, start.rounds if start else 0, list(self._algorithm.setting.owners))
        if self._folder:
            self._folder.restore_rows()
        if start is None:
            return
        self._go_back(start)
        if self._over():  # the run was interrupted between its last round and its end
            await self._evaluate(len(self._ledger.rows) - 1)

    def _reached(self) -> str:
        """Return what a run that ends with a bad loss leaves; nothing where it left nothing or records nothing."""
        if self._folder is None or not self._ledger.rows:
            return ""
        tested = [row["round"] for row in self._ledger.rows if "test_loss" in row]
        weights = f", model.pt those of round {tested[-1]}" if tested and self._states else ""
        rounds = len(self._ledger.rows)
        return f"{self._folder.path} keeps {rounds} round{'s' if rounds > 1 else ''}{weights}"

    def _over(self) -> str | None:
        """Return why the run is over; None where another round follows."""
        rows = self._ledger.rows
        reason = stop_reason(rows, self._experiment.evaluation) if rows else None
        return reason or ("all rounds done" if len(rows) >= self._algorithm.num_rounds else None)

    async def _attempt(self, round: int) -> None:
        """Run, record and keep a round, or go back to the last checkpoint after a loss."""
        safety, drawn = self._safety, list[str]()
        self._callbacks.stage_began("train")
        try:
            await safety.take_in(self._ledger.rows, self._ledger.traffic)
            drawn = self._drawn(round)
            row, moved = await self._watch.watched(self._round(round, safety.left(round, drawn)), round)
            if self._folder:
                self._folder.require_there()  # a checkpoint would make a folder that was removed again
            self._callbacks.stage_began("write")
            best = is_best(self._ledger.rows, row, self._experiment.evaluation)
            rows, traffic = [*self._ledger.rows, row], merge_traffic([self._ledger.traffic, moved])
            await safety.keep(rounds=round + 1, rows=rows, traffic=traffic, cohort=drawn, is_best=best)
        except RECOVERABLE as error:
            self._go_back(await safety.recover(error, round, drawn))
        else:
            self._record(row, moved)

    def _drawn(self, round: int) -> list[str]:
        owners = self._safety.candidates(self._algorithm.available(round), round)
        return list(self._algorithm.drawn(round, owners))

    def _go_back(self, kept: Checkpoint) -> None:
        self._ledger.go_back(kept.rows, kept.traffic)
        if self._folder:
            self._folder.replace_rows(kept.rows)

    async def _round(self, round: int, cohort: Sequence[str]) -> tuple[Row, list[LinkTraffic]]:
        rules, algorithm = self._experiment.evaluation, self._algorithm
        measured = rules.divergence_every is not None and round % rules.divergence_every == 0
        divergence = await measure_divergence(algorithm) if measured else {}
        rate, attempt = algorithm.lr_scale(round), self._safety.attempts
        before, started = await self._cluster.traffic(), time.perf_counter()
        context = await algorithm.weighted(algorithm.context(round, cohort, lr_scale=rate, attempt=attempt))
        context = replace(context, record_gradients=measured)
        report = await algorithm.round(context)
        seconds = time.perf_counter() - started
        moved = with_statements(difference(await self._cluster.traffic(), before), round, self._experiment.about_data)
        self._idle.tell(round, moved)
        loads = await self._cluster.party_loads() if self._idle.codes or self._meter is not None else []
        if self._meter is not None:
            self._meter.deployed(algorithm.latecomers())
            self._meter.round_measured(moved, loads)
        divergence |= await measure_round(algorithm, context)
        row = self._ledger.entry(context, report, seconds, moved, loads) | divergence | self._members.row()
        if round == algorithm.num_rounds - 1 or (round + 1) % rules.every == 0:
            row |= await self._evaluate(round)
        return row, moved

    async def _evaluate(self, round: int) -> Row:
        """Evaluate all models, everybody's and those of single owners, and return the columns of the row."""
        self._callbacks.stage_began("evaluate")
        algorithm, owners = self._algorithm, self._experiment.setting.owners
        at_cuts = self._at_cuts if round >= self._experiment.links.warmup_rounds else None
        models = algorithm.models()
        new_states = {label: self._whole(label, await merged(states)) for label, states in models.items()}
        self._tested, self._states = await evaluated(algorithm, models, owners, at_cuts), new_states
        row = self._controls.row(self._tested) | await validated(algorithm, models, at_cuts)
        if at_cuts is not None:
            row |= self._controls.uncoded(await evaluated(algorithm, models, owners))
        return row

    def _whole(self, label: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Add what no party sends to a state: frozen weights, and further names of tied ones."""
        return whole_state(self._algorithm.spec_of(label), state)

    def _record(self, row: Row, moved: list[LinkTraffic]) -> None:
        self._ledger.record(row, moved)
        if self._folder:
            self._folder.add_row(row)
        logger.info("round %s", json.dumps(row))
        self._callbacks.round_ended(row)
        if "test_loss" in row:
            self._callbacks.evaluated(row)

    def _saved(self, error: BaseException) -> bool:
        """Write the results of a run that an error ends, and return whether the disk took them; the error is raised."""
        try:
            self._callbacks.stage_began("write")
            self._save(DIVERGED if isinstance(error, ArithmeticError) else CUT_SHORT)
        except NotWritten as another:
            logger.error("%s", another)
            return False
        return True

    def _save(self, stopped: str) -> None:
        if not self._folder or not self._ledger.rows:
            return
        self._folder.write_tables(self._ledger.traffic, self._tables())
        if self._states:
            self._write_models(self._folder)
        summary: Row = {"stopped": stopped, "rounds": len(self._ledger.rows), "algorithm": self._experiment.method}
        evaluation = self._experiment.evaluation
        summary |= to_targets(self._ledger.rows, wanted_targets(evaluation), evaluation.metric)
        summary |= self._algorithm.summary() | task_summary(self._experiment.setting.task)
        summary["last"] = self._ledger.rows[-1]
        self._folder.write_text("summary.json", json.dumps(summary, indent=2) + "\n")

    def _tables(self) -> Mapping[str, pa.Table]:
        """Return the tables of the algorithm and, where an evaluation was divided by owner, the last one's."""
        if self._tested is None or not self._tested.by_owner:
            return self._algorithm.tables()
        own = {"owners.parquet": owner_table(self._tested, self._experiment.setting, self._controls.majority)}
        return {**own, **self._algorithm.tables()}

    def _write_models(self, folder: RunFolder) -> None:
        """Write the chosen models, the last ones where they differ, and the export of a multi-task classifier."""
        better, spec = self._algorithm.chosen(), self._algorithm.setting.spec
        chosen = {label: self._whole(label, state) for label, state in better.items()} or self._states
        folder.write_model(chosen)
        if chosen is not self._states:
            folder.write_model(self._states, "last.pt")
        if isinstance(spec, ClassifierSpec) and "global" in chosen:
            owner = next(iter(self._algorithm.setting.owners.values()))
            transform = normalisation(owner.eval_transform)
            units = task.units() if (task := self._algorithm.setting.task) else {}
            export_trained(folder.path, spec, chosen["global"], transform, units=units, advice=folder.advice)
