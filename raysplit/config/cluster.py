"""From the cluster section of a configuration to a cluster: Ray, layout, places, device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from raysplit.cluster.contract import PartySpec
from raysplit.cluster.emulation.machines import Emulate
from raysplit.cluster.layout import Layout, lay_out, lay_out_elastic
from raysplit.cluster.on_ray.connect import RayOptions
from raysplit.config.run import RunConfig
from raysplit.prediction.machines import with_resources
from raysplit.prediction.pacing import known_work

if TYPE_CHECKING:
    from raysplit.cluster.on_ray.cluster import RayCluster


_MIB = 2**20


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
        return ElasticRayCluster(layout, links=config.links.rules())
    return RayCluster(
        layout,
        strategy=section.strategy,
        placement_timeout_s=section.placement_timeout_s,
        emulate=emulate,
        links=config.links.rules(),
    )


def choose_device(config: RunConfig, resources: dict[str, float]) -> str:
    """``cuda`` when asked for, or when ``auto`` and the cluster offers GPUs."""
    wanted = config.cluster.device
    has_gpus = resources.get("GPU", 0.0) > 0
    if wanted == "cuda" and not has_gpus:
        raise ValueError("cluster.device is cuda and the Ray cluster offers no GPU; set cluster.device to cpu or auto")
    return "cuda" if has_gpus and wanted != "cpu" else "cpu"
