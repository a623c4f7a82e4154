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

from raysplit.cluster.contract import PartySpec
from raysplit.cluster.emulation.events import EventLog
from raysplit.cluster.emulation.machines import Emulate
from raysplit.cluster.layout import Layout, lay_out, lay_out_elastic
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.cluster.on_ray.connect import PublishedMetric, RayOptions, connect, publisher, ray_left_as_found
from raysplit.train.checkpoint import Checkpoints
from raysplit.train.config import RunConfig, load_config
from raysplit.train.emulated import with_resources
from raysplit.train.folder import RunFolder, RunFolderUsed, finished, held
from raysplit.train.operations import METRICS, Operations, Publish
from raysplit.train.planned import with_planned_cuts
from raysplit.train.prediction import Pacing, known_work, write_timeline
from raysplit.train.recovery import fingerprint
from raysplit.train.run import Observer, RunResult, run
from raysplit.train.setup import Prepared, prepare
from raysplit.train.storage import below

if TYPE_CHECKING:
    from raysplit.cluster.on_ray.cluster import RayCluster

logger = logging.getLogger(__name__)

_MIB = 2**20


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
        local = LocalCluster(pacing.emulate if pacing else None)
        result = asyncio.run(work(config, prepared, local, observers=observers))
        return _with_prediction(result, pacing, local.log, prepared)
    with nullcontext() if keep_ray else ray_left_as_found():
        resources = connect(ray_options(config))
        prepared = prepare(config, device=choose_device(config, resources))
        layout = ray_layout(config, resources)
        pacing = Pacing(config, config.topology, layout) if config.topology and not config.cluster.elastic else None
        cluster = ray_cluster(config, layout, pacing.emulate if pacing else None)
        told = Operations(_publisher(config))
        running = work(config, prepared, cluster, observers=[*observers, told], meter=told, resources=resources)
        result = asyncio.run(running)
        return _with_prediction(result, pacing, cluster.log, prepared)


def _publisher(config: RunConfig) -> Publish:
    labels = {"run": config.output.name or "unnamed", "algorithm": config.algorithm.name}
    return publisher([PublishedMetric(m.name, m.kind, m.description, m.keys) for m in METRICS], labels)


def ray_options(config: RunConfig) -> RayOptions:
    """How the configuration wants Ray."""
    section = config.cluster
    return RayOptions(
        address=section.address,
        num_cpus=section.num_cpus,
        object_store_bytes=section.object_store_mib * _MIB,
        dashboard=section.dashboard,
    )


def ray_layout(config: RunConfig, resources: dict[str, float]) -> Callable[[Sequence[PartySpec]], Layout]:
    """Puts parties on the configured places, which ask for what the topology's devices need."""
    section = config.cluster
    on_cuda = choose_device(config, resources) == "cuda"

    def plain_layout(parties: Sequence[PartySpec]) -> Layout:
        gpus_per_place = None if section.gpus_per_place == "auto" else section.gpus_per_place
        num_places = None if section.places == "auto" else section.places
        if section.elastic is not None:
            return lay_out_elastic(
                parties,
                num_places=None if section.sharing == "alone" else num_places,
                min_places=section.elastic.min_places,
                cpus_per_place=section.elastic.cpus_per_place,
                gpus_per_place=(gpus_per_place or 0.0) if on_cuda else 0.0,
                apart=config.algorithm.options.get("on_offer") or (),
            )
        return lay_out(
            parties,
            num_places=num_places,
            cpus=resources.get("CPU", 1.0),
            gpus=resources.get("GPU", 0.0) if on_cuda else 0.0,
            gpus_per_place=gpus_per_place,
            sharing=section.sharing,
            work=known_work(config, parties),
        )

    def layout(parties: Sequence[PartySpec]) -> Layout:
        plain = plain_layout(parties)
        return with_resources(plain, config.topology, parties) if config.topology else plain

    return layout


def ray_cluster(
    config: RunConfig, layout: Callable[[Sequence[PartySpec]], Layout], emulate: Emulate | None = None
) -> RayCluster:
    """A cluster of the configured places on the connected Ray."""
    from raysplit.cluster.on_ray.cluster import RayCluster  # imports ray, whose environment `connect` has prepared
    from raysplit.cluster.on_ray.elastic import ElasticRayCluster

    section = config.cluster
    if section.elastic is not None:
        return ElasticRayCluster(layout)
    return RayCluster(
        layout, strategy=section.strategy, placement_timeout_s=section.placement_timeout_s, emulate=emulate
    )


def _with_prediction(result: RunResult, pacing: Pacing | None, log: EventLog, prepared: Prepared) -> RunResult:
    if pacing is None or not pacing.predicts:
        return result
    comparison, measured = pacing.compared(result.rows, log, [len(part) for part in prepared.parts])
    if result.folder is not None:
        write_timeline(result.folder, comparison, measured)
    return replace(result, comparison=comparison)


def choose_device(config: RunConfig, resources: dict[str, float]) -> str:
    """``cuda`` when asked for, or when ``auto`` and the cluster offers GPUs."""
    wanted = config.cluster.device
    has_gpus = resources.get("GPU", 0.0) > 0
    if wanted == "cuda" and not has_gpus:
        raise ValueError("cluster.device is cuda and the Ray cluster offers no GPU; set cluster.device to cpu or auto")
    return "cuda" if has_gpus and wanted != "cpu" else "cpu"
