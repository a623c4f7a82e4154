"""One call from a configuration to a trained model: get hold of a cluster, prepare, run, let go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from raysplit.cluster.emulation.events import EventLog
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.cluster.on_ray.connect import PublishedMetric, connect, publisher, ray_left_as_found
from raysplit.config.build import Prepared, prepare
from raysplit.config.cluster import choose_device, ray_cluster, ray_layout, ray_options
from raysplit.config.run import RunConfig, load_config
from raysplit.prediction.pacing import Pacing, write_timeline
from raysplit.prediction.plan_cuts import with_planned_cuts
from raysplit.runs.folder import RunFolder, RunFolderUsed, finished, held
from raysplit.runs.ray_metrics import METRICS, Publish, RayMetrics
from raysplit.runs.result import Observer, RunResult
from raysplit.runs.storage import below
from raysplit.training.loop import run
from raysplit.training.recovery.checkpoint import Checkpoints
from raysplit.training.recovery.recovery import fingerprint

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)


def run_config(
    config: RunConfig, *, observers: Sequence[Observer] = (), folder: Path | None = None, keep_ray: bool = False
) -> RunResult:
    """Train as configured and return the result; with a ``folder``, everything is recorded there.

    Args:
        keep_ray: stay connected to Ray for further runs; otherwise Ray is left as it was found.

    Raises:
        ConfigError, ValueError: the configuration does not fit data or model.
        RayUnreachable, PlacementError: no cluster, or no room on it.
        NonFiniteLoss: training diverged; metrics and the last good weights are in the folder.
    """
    config = with_planned_cuts(config)
    if folder is None:
        return _execute(config, run, observers, keep_ray)
    with held(folder):
        written = RunFolder(folder, overwrite=config.output.overwrite)
        checkpoints = checkpoints_of(config, folder)
        _make_free(checkpoints, overwrite=config.output.overwrite)
        to_end = partial(run, folder=written, checkpoints=checkpoints)
        return _execute(config, to_end, observers, keep_ray)


def resume_run(folder: Path, *, observers: Sequence[Observer] = (), keep_ray: bool = False) -> RunResult:
    """Go on with a run that was cut short, from its newest good checkpoint, to the weights it would have ended with.

    Without a checkpoint it begins anew, to the same end. Raises ``ValueError`` for a folder that holds no run, or a
    run that has finished; otherwise as `run_config`.
    """
    if not (folder / "config.yaml").exists():
        raise ValueError(f"{folder} is not a run folder: it has no config.yaml")
    if finished(folder):
        raise ValueError(f"{folder} holds a run that has finished; there is nothing left to do")
    with held(folder):
        config = load_config(folder / "config.yaml")
        checkpoints = checkpoints_of(config, folder)
        start = checkpoints.newest(fingerprint(config))
        written = RunFolder.reopen(folder, start.rows if start else ())
        rest = partial(run, folder=written, checkpoints=checkpoints, start=start)
        return _execute(config, rest, observers, keep_ray)


def _make_free(checkpoints: Checkpoints, *, overwrite: bool) -> None:
    """A new run begins without checkpoints: another run's, kept elsewhere, would count as its newest."""
    if checkpoints.names() and not overwrite:
        raise RunFolderUsed(
            f"{checkpoints.location} holds the checkpoints of another run; give another output.name (--name) or set "
            f"output.overwrite=true (--overwrite) to replace them"
        )
    checkpoints.drop_after(0)


def checkpoints_of(config: RunConfig, folder: Path) -> Checkpoints:
    """Where the run in a folder keeps its round ends."""
    elsewhere = config.reliability.checkpoint_location
    location = below(elsewhere, folder.name) if elsewhere else folder / "checkpoints"
    return Checkpoints(location, keep_last=config.reliability.keep_last)


def _execute(
    config: RunConfig,
    work: Callable[..., Coroutine[Any, Any, RunResult]],
    observers: Sequence[Observer],
    keep_ray: bool,
) -> RunResult:
    """Get hold of the cluster, prepare, do the work ``(config, prepared, cluster, ...)``, let go."""
    torch.set_num_threads(1)  # as in every place: bitwise equality is promised at equal thread counts
    if config.cluster.kind == "local":
        device = "cuda" if config.cluster.device != "cpu" and torch.cuda.is_available() else "cpu"
        prepared = prepare(config, device=device)
        pacing = Pacing(config, config.topology) if config.topology and not config.cluster.elastic else None
        local = LocalCluster(pacing.emulate if pacing else None, links=config.links.rules())
        result = asyncio.run(work(config, prepared, local, observers=observers))
        return _with_prediction(result, pacing, local.log, prepared)
    with nullcontext() if keep_ray else ray_left_as_found():
        resources = connect(ray_options(config))
        prepared = prepare(config, device=choose_device(config, resources))
        layout = ray_layout(config, resources)
        pacing = Pacing(config, config.topology, layout) if config.topology and not config.cluster.elastic else None
        cluster = ray_cluster(config, layout, pacing.emulate if pacing else None)
        told = RayMetrics(_publisher(config))
        running = work(config, prepared, cluster, observers=[*observers, told], meter=told, resources=resources)
        result = asyncio.run(running)
        return _with_prediction(result, pacing, cluster.log, prepared)


def _publisher(config: RunConfig) -> Publish:
    labels = {"run": config.output.name or "unnamed", "algorithm": config.algorithm.name}
    return publisher([PublishedMetric(m.name, m.kind, m.description, m.keys) for m in METRICS], labels)


def _with_prediction(result: RunResult, pacing: Pacing | None, log: EventLog, prepared: Prepared) -> RunResult:
    if pacing is None or not pacing.predicts:
        return result
    comparison, measured = pacing.compared(result.rows, log, [len(part) for part in prepared.parts])
    if result.folder is not None:
        write_timeline(result.folder, comparison, measured)
    return replace(result, comparison=comparison)
