"""Build the Ray options, the layout, the cluster and the device of a run from its cluster options."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from raysplit.cluster.contract import PartySpec
from raysplit.cluster.emulation.machines import Emulate
from raysplit.cluster.layout import Layout, Needs, lay_out, lay_out_elastic, with_needs
from raysplit.cluster.on_ray.connect import RayOptions
from raysplit.data.by_owner.sealed import SealedSamples
from raysplit.data.by_owner.source import OwnSource
from raysplit.experiment.cluster import ClusterOptions
from raysplit.experiment.experiment import Experiment
from raysplit.prediction.machines import with_resources
from raysplit.prediction.pacing import known_work
from raysplit.registry import few
from raysplit.runs.records.origin import effects_of

if TYPE_CHECKING:
    from raysplit.cluster.on_ray.cluster import RayCluster
logger = logging.getLogger(__name__)

_MIB = 2**20


def ray_options(options: ClusterOptions) -> RayOptions:
    """Return the options for connecting to Ray."""
    return RayOptions(
        address=options.address,
        num_cpus=options.num_cpus,
        object_store_bytes=options.object_store_mib * _MIB,
        dashboard=options.dashboard,
    )


def ray_layout(experiment: Experiment, resources: dict[str, float]) -> Callable[[Sequence[PartySpec]], Layout]:
    """Return a function that lays parties out on the configured places, with the resources of the topology."""
    options = experiment.cluster
    on_cuda = choose_device(options, resources) == "cuda"

    def plain_layout(parties: Sequence[PartySpec]) -> Layout:
        gpus_per_place = None if options.gpus_per_place == "auto" else options.gpus_per_place
        num_places = None if options.places == "auto" else options.places
        if options.elastic is not None:
            return lay_out_elastic(
                parties,
                num_places=None if options.sharing == "alone" else num_places,
                min_places=options.elastic.min_places,
                cpus_per_place=options.elastic.cpus_per_place,
                gpus_per_place=(gpus_per_place or 0.0) if on_cuda else 0.0,
                apart=experiment.algorithm.on_offer,
            )
        return lay_out(
            parties,
            num_places=num_places,
            cpus=resources.get("CPU", 1.0),
            gpus=resources.get("GPU", 0.0) if on_cuda else 0.0,
            gpus_per_place=gpus_per_place,
            sharing=options.sharing,
            work=known_work(experiment, parties),
        )

    shards: list[Any] = [data.shard for data in experiment.setting.owners.values()]
    own = needs_of([shard.source for shard in shards if isinstance(shard, SealedSamples)])

    def layout(parties: Sequence[PartySpec]) -> Layout:
        plain = plain_layout(parties)
        there = with_resources(plain, experiment.topology, parties) if experiment.topology else plain
        return with_needs(there, own)

    return layout


def needs_of(sources: Sequence[OwnSource]) -> dict[str, Needs]:
    """Return what owners that read their own sources ask of their places."""
    return {source.party: Needs(resources=source.resources, labels=source.labels) for source in sources}


def ray_cluster(
    experiment: Experiment, layout: Callable[[Sequence[PartySpec]], Layout], emulate: Emulate | None = None
) -> RayCluster:
    """Build the cluster of the configured places on the connected Ray."""
    from raysplit.cluster.on_ray.cluster import RayCluster  # imports ray, after `connect` has prepared its environment
    from raysplit.cluster.on_ray.elastic import ElasticRayCluster

    options, links = experiment.cluster, experiment.link_rules()
    if options.elastic is not None:
        return ElasticRayCluster(layout, links=links)
    return RayCluster(
        layout,
        strategy=options.strategy,
        placement_timeout_s=options.placement_timeout_s,
        emulate=emulate,
        links=links,
    )


def tell_shared_memory(experiment: Experiment) -> None:
    """Log that code of one's own can read the raw samples of all parties in its process, where parties share one."""
    own = effects_of(experiment.plain).imports
    if not own or experiment.cluster.sharing == "alone":
        return
    alone = "cluster.kind: ray and " if experiment.cluster.kind == "local" else ""
    level = logging.INFO if experiment.cluster.kind == "local" else logging.WARNING
    logger.log(
        level,
        "this run %s; parties share processes, and code in a process can read the raw samples of every owner there; "
        "%scluster.sharing: alone gives each party a process of its own",
        few(own),
        alone,
    )


def choose_device(options: ClusterOptions, resources: dict[str, float]) -> str:
    """Return ``cuda`` when it is configured, or when the device is ``auto`` and the cluster has GPUs; else ``cpu``.

    Raises ``ValueError`` where ``cuda`` is configured and the cluster has no GPU.
    """
    wanted = options.device
    has_gpus = resources.get("GPU", 0.0) > 0
    if wanted == "cuda" and not has_gpus:
        raise ValueError("cluster.device is cuda and the Ray cluster has no GPU; set cluster.device to cpu or auto")
    return "cuda" if has_gpus and wanted != "cpu" else "cpu"
