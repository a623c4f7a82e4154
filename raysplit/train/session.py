"""One call from a configuration to a trained model: get hold of a cluster, prepare, run, let go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from raysplit.cluster.contract import Cluster
from raysplit.cluster.launch import RayOptions, connect, disconnect
from raysplit.cluster.local import LocalCluster
from raysplit.cluster.topology import lay_out
from raysplit.train.config import RunConfig
from raysplit.train.folder import RunFolder
from raysplit.train.run import Observer, RunResult, run
from raysplit.train.setup import prepare

logger = logging.getLogger(__name__)

_MIB = 2**20


def run_config(
    config: RunConfig, *, observers: Sequence[Observer] = (), folder: Path | None = None, keep_ray: bool = False
) -> RunResult:
    """Train as configured and return the result; with a ``folder``, everything is recorded there.

    Args:
        keep_ray: stay connected to Ray for further runs; otherwise a local Ray that was started here ends with it.

    Raises:
        ConfigError, ValueError: the configuration does not fit data or model.
        RayUnreachable, PlacementError: no cluster, or no room on it.
        NonFiniteLoss: training diverged; metrics and the last good weights are in the folder.
    """
    torch.set_num_threads(1)  # as in every place: bitwise equality is promised at equal thread counts
    written = RunFolder(folder, overwrite=config.output.overwrite) if folder is not None else None
    if config.cluster.kind == "local":
        device = "cuda" if config.cluster.device != "cpu" and torch.cuda.is_available() else "cpu"
        prepared = prepare(config, device=device)
        return asyncio.run(run(config, prepared, LocalCluster(), folder=written, observers=observers))
    resources = connect(ray_options(config))
    try:
        prepared = prepare(config, device=choose_device(config, resources))
        cluster = ray_cluster(config, resources)
        return asyncio.run(run(config, prepared, cluster, folder=written, observers=observers, resources=resources))
    finally:
        if not keep_ray:
            disconnect()


def ray_options(config: RunConfig) -> RayOptions:
    """How the configuration wants Ray."""
    section = config.cluster
    return RayOptions(
        address=section.address,
        num_cpus=section.num_cpus,
        object_store_bytes=section.object_store_mib * _MIB,
        dashboard=section.dashboard,
    )


def ray_cluster(config: RunConfig, resources: dict[str, float]) -> Cluster:
    """A cluster of the configured places on the connected Ray."""
    from raysplit.cluster.ray import RayCluster  # imports ray, whose environment `connect` has prepared

    section = config.cluster
    on_cuda = choose_device(config, resources) == "cuda"
    layout = partial(
        lay_out,
        num_places=None if section.places == "auto" else section.places,
        cpus=resources.get("CPU", 1.0),
        gpus=resources.get("GPU", 0.0) if on_cuda else 0.0,
        gpus_per_place=None if section.gpus_per_place == "auto" else section.gpus_per_place,
        sharing=section.sharing,
    )
    return RayCluster(layout, strategy=section.strategy, placement_timeout_s=section.placement_timeout_s)


def choose_device(config: RunConfig, resources: dict[str, float]) -> str:
    """``cuda`` when asked for, or when ``auto`` and the cluster offers GPUs."""
    wanted = config.cluster.device
    has_gpus = resources.get("GPU", 0.0) > 0
    if wanted == "cuda" and not has_gpus:
        raise ValueError("cluster.device is cuda and the Ray cluster offers no GPU; set cluster.device to cpu or auto")
    return "cuda" if has_gpus and wanted != "cpu" else "cpu"
