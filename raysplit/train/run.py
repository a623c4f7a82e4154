"""The loop: deploy, run rounds, evaluate, record, stop, export."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from raysplit.actors.evaluator import Evaluation
from raysplit.algorithms import resolve_algorithm
from raysplit.algorithms.base import Algorithm, RoundReport
from raysplit.cluster.contract import Cluster, Handle, LinkTraffic, gather
from raysplit.cluster.wire import difference
from raysplit.data.partition import save_partition
from raysplit.data.streams import generator
from raysplit.data.transforms import normalisation
from raysplit.models.classifier_spec import ClassifierSpec
from raysplit.models.export import export_trained
from raysplit.schedulers.cohort import choose_cohort
from raysplit.train.config import RunConfig, dump_config
from raysplit.train.controls import majority_accuracy, to_targets
from raysplit.train.divergence import measure_divergence
from raysplit.train.folder import Row, RunFolder
from raysplit.train.scores import merit, tested
from raysplit.train.setup import Prepared
from raysplit.train.timeline import Comparison

logger = logging.getLogger(__name__)

CUT_SHORT = "cut short"
"""Why a run ended that an error or a person interrupted."""


class Observer(Protocol):
    """Is told how a run goes; the command line's progress is one."""

    def started(self, config: RunConfig, prepared: Prepared) -> None: ...

    def round_done(self, row: Row) -> None: ...

    def finished(self, result: RunResult) -> None: ...


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run ends with: its metrics by round, the trained weights by label, traffic by link and why it stopped.

    ``comparison`` is there where the run had a topology: its rounds as predicted and as measured.
    """

    rows: tuple[Row, ...]
    states: Mapping[str, Mapping[str, Tensor]] = field(repr=False)  # asyncio prints what its main task returns
    traffic: tuple[LinkTraffic, ...]
    stopped: str
    folder: Path | None = None
    comparison: Comparison | None = None

    @property
    def accuracy(self) -> float:
        """Test accuracy after the last round."""
        return float(self.rows[-1]["test_accuracy"])


async def run(
    config: RunConfig,
    prepared: Prepared,
    cluster: Cluster,
    *,
    folder: RunFolder | None = None,
    observers: Sequence[Observer] = (),
    resources: Mapping[str, float] | None = None,
) -> RunResult:
    """Train as configured on the given cluster, which is closed at the end.

    What a failed run has reached stays: metrics line by line, and the weights of its last good round in ``model.pt``.
    """
    algorithm = resolve_algorithm(config.algorithm.name)(prepared.setting, config.algorithm.resolved_options())
    if folder is not None:
        folder.write_text("config.yaml", dump_config(config))
        folder.write_environment(resources or {})
        save_partition(folder.path / "partition.parquet", list(prepared.parts))
    try:
        setting = algorithm.setting
        handles = await cluster.deploy([*algorithm.parties(), *setting.evaluators, *setting.validators])
        algorithm.attach(handles, cluster)
        for observer in observers:
            observer.started(config, prepared)
        result = await _Loop(config, algorithm, handles, cluster, folder, observers).run()
    finally:
        await cluster.close()
    for observer in observers:
        observer.finished(result)
    return result


class _Loop:
    def __init__(
        self,
        config: RunConfig,
        algorithm: Algorithm,
        handles: Mapping[str, Handle],
        cluster: Cluster,
        folder: RunFolder | None,
        observers: Sequence[Observer],
    ) -> None:
        self._config = config
        self._algorithm = algorithm
        self._evaluators = [handles[spec.name] for spec in algorithm.setting.evaluators]
        self._cluster = cluster
        self._folder = folder
        self._observers = observers
        self._rows: list[Row] = []
        self._traffic: dict[tuple[str, str], LinkTraffic] = {}
        self._states: Mapping[str, Mapping[str, Tensor]] = {}
        self._train_s = 0.0
        self._steps = 0
        self._majority = majority_accuracy(algorithm.setting.owners)

    async def run(self) -> RunResult:
        stopped = CUT_SHORT
        try:
            while len(self._rows) < self._algorithm.num_rounds:
                row = await self._round(len(self._rows))
                self._record(row)
                reason = stop_reason(self._rows, self._config)
                if reason:
                    stopped = reason
                    break
            else:
                stopped = "all rounds done"
        except ArithmeticError:
            logger.error("stopped by a bad loss; the weights of the last good round are saved")
            raise
        finally:
            self._save(stopped)
        return RunResult(
            rows=tuple(self._rows),
            states=self._states,
            traffic=tuple(self._traffic.values()),
            stopped=stopped,
            folder=self._folder.path if self._folder else None,
        )

    async def _round(self, round: int) -> Row:
        config, algorithm = self._config, self._algorithm
        rng = generator(config.seed, "round", round, "cohort")
        cohort = choose_cohort(algorithm.available(round), config.training.cohort_size, rng)
        divergence: dict[str, float] = {}
        if config.evaluation.divergence_every and round % config.evaluation.divergence_every == 0:
            divergence = await measure_divergence(algorithm)
        before = await self._cluster.traffic()
        started = time.perf_counter()
        task = algorithm.task(round, cohort, lr_scale=algorithm.lr_scale(round))
        report = await algorithm.round(task)
        seconds = time.perf_counter() - started
        moved = difference(await self._cluster.traffic(), before)
        self._count(moved)
        self._train_s += seconds
        self._steps += max(task.num_steps)
        row = self._row(round, report, seconds, sum(link.num_bytes for link in moved)) | divergence
        last = round == algorithm.num_rounds - 1
        if last or (round + 1) % config.evaluation.every == 0:
            row |= await self._evaluate()
        return row

    def _row(self, round: int, report: RoundReport, seconds: float, num_bytes: int) -> Row:
        return {
            "round": round + 1,
            "train_loss": report.loss,
            "num_owners": len(report.owners),
            "num_samples": report.num_samples,
            "server_steps": report.server_steps,
            "steps_total": self._steps,
            "seconds": seconds,
            "train_seconds_total": self._train_s,
            "samples_per_s": report.num_samples / seconds,
            "bytes": num_bytes,
            "bytes_total": sum(link.num_bytes for link in self._traffic.values()),
            **report.values,
        }

    async def _evaluate(self) -> Row:
        """Accuracy of the global model, or the mean over the owners' models (each on its owner's own test data)."""
        algorithm = self._algorithm
        models = algorithm.models()
        own = [data.test is not None for data in algorithm.setting.owners.values()]
        evaluations: list[Evaluation] = []
        for label, states in models.items():
            evaluations += await (
                self._on_own_tests(label, states) if any(own) else self._on_common_test(label, states)
            )
        self._states = {label: await merged(states) for label, states in models.items()}
        row: Row = tested(evaluations)
        if self._majority is not None:
            row["majority_accuracy"] = self._majority
        return row

    async def _on_common_test(self, label: str, states: list[Any]) -> list[Evaluation]:
        spec = self._algorithm.spec_of(label)
        parts: list[Evaluation] = await gather(*[e.evaluate(*states, spec=spec) for e in self._evaluators])
        total = parts[0]
        for part in parts[1:]:
            total += part
        return [total]

    async def _on_own_tests(self, label: str, states: list[Any]) -> list[Evaluation]:
        """A global model is tested on every owner's samples, an owner's model on this owner's."""
        handles, owners = self._algorithm.handles, self._algorithm.setting.owners
        names = [label] if label in owners else list(owners)
        return await gather(*[handles[name].evaluate(*states) for name in names])

    def _count(self, moved: list[LinkTraffic]) -> None:
        for link in moved:
            key = (link.source, link.destination)
            before = self._traffic.get(key)
            self._traffic[key] = LinkTraffic(
                source=link.source,
                destination=link.destination,
                num_bytes=link.num_bytes + (before.num_bytes if before else 0),
                num_messages=link.num_messages + (before.num_messages if before else 0),
            )

    def _record(self, row: Row) -> None:
        self._rows.append(row)
        if self._folder:
            self._folder.add_row(row)
        logger.info("round %s", json.dumps(row))
        for observer in self._observers:
            observer.round_done(row)

    def _save(self, stopped: str) -> None:
        if not self._folder or not self._rows:
            return
        self._folder.write_tables(list(self._traffic.values()), self._algorithm.tables())
        if self._states:
            self._write_models(self._folder)
        summary: Row = {"stopped": stopped, "rounds": len(self._rows), "algorithm": self._config.algorithm.name}
        evaluation = self._config.evaluation
        wanted = {*evaluation.targets, *([evaluation.target_accuracy] if evaluation.target_accuracy else [])}
        summary |= to_targets(self._rows, sorted(wanted)) | self._algorithm.summary() | {"last": self._rows[-1]}
        self._folder.write_text("summary.json", json.dumps(summary, indent=2) + "\n")

    def _write_models(self, folder: RunFolder) -> None:
        """The chosen models, and the last ones where those are others; a multi-task classifier as it can be served."""
        chosen, spec = self._algorithm.chosen() or self._states, self._algorithm.setting.spec
        folder.write_model(chosen)
        if chosen is not self._states:
            folder.write_model(self._states, "last.pt")
        if isinstance(spec, ClassifierSpec) and "global" in chosen:
            owner = next(iter(self._algorithm.setting.owners.values()))
            export_trained(folder.path, spec, chosen["global"], normalisation(owner.eval_transform))


async def merged(states: Sequence[Any]) -> dict[str, Tensor]:
    """The whole model's weights out of promises of the parts'; copies, so that nothing pins shared memory."""
    return {key: value.clone() for state in await gather(*states) for key, value in state.items()}


def stop_reason(rows: Sequence[Row], config: RunConfig) -> str | None:
    """Why a run should stop before its last round, if it should."""
    evaluated = [value for row in rows if (value := merit(row)) is not None]
    if not evaluated or merit(rows[-1]) is None:
        return None
    target, patience = config.evaluation.target_accuracy, config.evaluation.patience
    if target is not None and rows[-1].get("test_accuracy", 0.0) >= target:
        return f"target accuracy {target:g} reached"
    if patience is not None and len(evaluated) > patience and max(evaluated[-patience:]) <= max(evaluated[:-patience]):
        return f"no better {'accuracy' if 'test_accuracy' in rows[-1] else 'loss'} in {patience} evaluations"
    return None
