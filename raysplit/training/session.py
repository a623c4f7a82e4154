"""Train an experiment in one call: connect to the cluster, run, record and disconnect."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Coroutine, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from raysplit.cluster.contract import PlaceLost
from raysplit.cluster.emulation.events import EventLog
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.cluster.on_ray.connect import PublishedMetric, connect, publisher, ray_left_as_found
from raysplit.data.failures import exits_are_errors
from raysplit.disk import told_where
from raysplit.experiment.cluster import ClusterOptions
from raysplit.experiment.errors import CannotBeSimulated
from raysplit.experiment.experiment import Experiment
from raysplit.experiment.rules import ReliabilityRules
from raysplit.paths import refuse_links_out
from raysplit.prediction.pacing import Pacing, write_timeline
from raysplit.runs.callback import Callback, Callbacks
from raysplit.runs.folder import RunFolder, RunFolderUsed, finished, held
from raysplit.runs.ray_metrics import METRICS, Publish, RayMetrics
from raysplit.runs.records.waits import Meters, Waits
from raysplit.runs.result import Result
from raysplit.seeding import one_thread
from raysplit.training.cluster import choose_device, ray_cluster, ray_layout, ray_options, tell_shared_memory
from raysplit.training.loop import run
from raysplit.training.model_checks import checked_parties
from raysplit.training.own_loop import kept_from_collection, run_to_end
from raysplit.training.preflight import try_parts
from raysplit.training.recovery.checkpoint import Checkpoint, Checkpoints, location_of
from raysplit.training.recovery.failures import RunStopped
from raysplit.training.recovery.start import start_anew, start_of
from raysplit.training.recovery.watch import RoundOverdue

logger = logging.getLogger(__name__)

Make = Callable[[str], Experiment]
"""Function that makes the experiment for a torch device, which is known once the cluster is connected."""


def train_new(
    make: Make,
    options: ClusterOptions,
    rules: ReliabilityRules,
    *,
    callbacks: Sequence[Callback] = (),
    folder: Path | None = None,
    overwrite: bool = False,
    keep_ray: bool = False,
) -> Result:
    """Train a new run and return its result; with a ``folder``, everything is recorded there.

    Args:
        make: makes the experiment for a torch device.
        options: the cluster to train on.
        rules: the rules for checkpoints.
        callbacks: called for the events of the run.
        folder: the run folder; None records nothing.
        overwrite: replace a run that is in the folder.
        keep_ray: stay connected to Ray for further runs; otherwise the connection is restored to what it was.

    Raises:
        ValueError: the experiment does not fit the data or the model, or the folder has a run.
        RayUnreachable, PlacementError: there is no cluster, or no room on it.
        NonFiniteLoss: training diverged; metrics and the last good weights are in the folder.
    """
    _refuse_missing_cuda(options)
    if folder is None:
        return _execute(make, options, run, callbacks, keep_ray)
    with held(folder):
        checkpoints = checkpoints_of(rules, folder)
        written = RunFolder(folder, overwrite=overwrite, clear_others=checkpoints.clear)
        written.has_checkpoint = partial(_any_of, checkpoints)
        _refuse_used(checkpoints, overwrite=overwrite)
        to_end = partial(run, folder=written, checkpoints=checkpoints)
        try:
            return _execute(make, options, to_end, callbacks, keep_ray, Waits(folder))
        except (PlaceLost, RoundOverdue, RunStopped, OSError):
            raise
        except Exception:  # a mistake, which a resumed run would end with again
            written.discard()
            raise


def train_on(
    make: Make,
    options: ClusterOptions,
    rules: ReliabilityRules,
    folder: Path,
    *,
    from_start: bool = False,
    callbacks: Sequence[Callback] = (),
    keep_ray: bool = False,
) -> Result:
    """Continue an interrupted run from its newest valid checkpoint; it ends with the weights of an undisturbed run.

    A run without a finished round starts at its first one. ``from_start`` sets aside what is there, and does so too.

    Raises:
        ValueError: the run has finished, or has rounds or checkpoints of which none can be used.
        Exception: otherwise as `train_new`.
    """
    refuse_links_out(folder)
    if not from_start and finished(folder):
        raise ValueError(f"{folder} has a run that has finished; there is nothing left to do")
    _refuse_missing_cuda(options)
    with held(folder):
        checkpoints = checkpoints_of(rules, folder)
        start: Checkpoint | None = None

        def checked(device: str) -> Experiment:
            nonlocal start
            experiment = make(device)
            start = None if from_start else start_of(experiment.plain, folder, checkpoints)
            return experiment

        async def rest(experiment: Experiment, *given: Any, **more: Any) -> Result:
            if from_start:
                logger.warning("what was there is now in %s", folder / start_anew(folder, checkpoints))
            checkpoints.tidy()
            written = RunFolder.reopen(folder, start.rows if start else ())
            written.has_checkpoint = partial(_any_of, checkpoints)
            return await run(experiment, *given, folder=written, checkpoints=checkpoints, start=start, **more)

        return _execute(checked, options, rest, callbacks, keep_ray, Waits(folder))


def _refuse_used(checkpoints: Checkpoints, *, overwrite: bool) -> None:
    # a new run must not find the checkpoints of another one, which it would continue from after a loss
    if checkpoints.names() and not overwrite:
        raise RunFolderUsed(
            f"{checkpoints.location} holds the checkpoints of another run; give another output.name (--name) or set "
            f"output.overwrite=true (--overwrite) to replace them"
        )


def _any_of(checkpoints: Checkpoints) -> bool:
    try:
        return bool(checkpoints.names())
    except OSError:  # a store elsewhere, which is not asked twice
        return True


def checkpoints_of(rules: ReliabilityRules, folder: Path) -> Checkpoints:
    """Return the checkpoints of the run in a folder."""
    advice = (
        f"the checkpoints before are whole; make room there, then go on: raysplit resume {shlex.quote(str(folder))}"
    )
    location = location_of(rules.checkpoint_location, folder)
    return Checkpoints(location, keep_last=rules.keep_last, advice=advice)


def _execute(
    make: Make,
    options: ClusterOptions,
    work: Callable[..., Coroutine[Any, Any, Result]],
    callbacks: Sequence[Callback],
    keep_ray: bool,
    waits: Waits | None = None,
) -> Result:
    """Make the experiment, connect to the cluster, run ``work(experiment, cluster, ...)`` and disconnect.

    What is wrong with the settings, the data or the model is found before Ray is started.
    """
    notify = Callbacks(callbacks)
    kept = [waits] if waits else []
    with one_thread(), exits_are_errors(), kept_from_collection():
        if options.kind == "local":
            has_cuda = options.device != "cpu" and torch.cuda.is_available()
            experiment = _checked(make, "cuda" if has_cuda else "cpu", notify)
            pacing = Pacing(experiment) if experiment.topology and not options.elastic else None
            local = LocalCluster(pacing.emulate if pacing else None, links=experiment.link_rules())
            result = run_to_end(work(experiment, local, callbacks=[*kept, *callbacks], meter=waits, checked=True))
            return _with_prediction(result, pacing, local.log)
        with nullcontext() if keep_ray else ray_left_as_found():
            experiment = _checked(make, "cpu", notify)
            notify.stage_began("connect")
            resources = connect(ray_options(options))
            device = choose_device(options, resources)
            experiment = experiment if device == "cpu" else make(device)
            layout = ray_layout(experiment, resources)
            pacing = Pacing(experiment, layout) if experiment.topology and not options.elastic else None
            cluster = ray_cluster(experiment, layout, pacing.emulate if pacing else None)
            metrics = RayMetrics(_publisher(experiment))
            told, meter = [*kept, *callbacks, metrics], Meters(metrics, *kept)
            running = work(experiment, cluster, callbacks=told, meter=meter, resources=resources, checked=True)
            return _with_prediction(run_to_end(running), pacing, cluster.log)


def _refuse_missing_cuda(options: ClusterOptions) -> None:
    if options.kind == "local" and options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "cluster.device is cuda and torch finds no CUDA device on this machine; set cluster.device to cpu or auto"
        )


def _checked(make: Make, device: str, notify: Callbacks) -> Experiment:
    """Make the experiment, and build and try each of its parts once. Raises ``ValueError`` where they do not fit."""
    notify.stage_began("load")
    experiment = make(device)
    notify.stage_began("check")
    algorithm = experiment.begin()
    try_parts(checked_parties(algorithm, experiment.setting.spec), algorithm.learners())
    tell_shared_memory(experiment)
    return experiment


def _publisher(experiment: Experiment) -> Publish:
    labels = {"run": experiment.run_name or "unnamed", "algorithm": experiment.method}
    return publisher([PublishedMetric(m.name, m.kind, m.description, m.keys) for m in METRICS], labels)


def _with_prediction(result: Result, pacing: Pacing | None, log: EventLog) -> Result:
    if pacing is None or not pacing.predicts:
        return result
    try:
        comparison, measured = pacing.compared(result.rows, log)
    except CannotBeSimulated as error:
        logger.warning("the run is not compared with a prediction: %s", error)
        return result
    if result.folder is not None:
        with told_where(result.folder / "timeline.parquet", "the run itself is whole; its timeline is missing"):
            write_timeline(result.folder, comparison, measured)
    return replace(result, comparison=comparison)
