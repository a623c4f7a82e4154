"""A question to every owner before a run, answered at its own place: in this process, or on Ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from raysplit.cluster.contract import PartySpec, gather
from raysplit.cluster.layout import Layout, Needs, lay_out, with_needs
from raysplit.cluster.on_ray.connect import connect, ray_left_as_found
from raysplit.config.run import RunConfig
from raysplit.prediction.machines import with_resources
from raysplit.training.cluster import ray_options
from raysplit.training.own_loop import run_to_end


def asked(
    config: RunConfig,
    parties: Sequence[PartySpec],
    question: Callable[[Any], Any],
    needs: Mapping[str, Needs] | None = None,
) -> list[Any]:
    """Deploy a party for each owner on Ray, where the owner's place will be, and return what each answers.

    Args:
        config: the configuration of the run.
        parties: the parties, in owner order.
        question: calls the party and returns its promise.
        needs: what owners ask of their places, by name.

    Raises:
        ValueError: an owner cannot answer.
        RayUnreachable, PlacementError: there is no cluster, or no room for an owner.
    """
    with ray_left_as_found():
        resources = connect(ray_options(config.cluster))
        return run_to_end(_on_ray(config, parties, question, needs or {}, resources))


async def _on_ray(
    config: RunConfig,
    parties: Sequence[PartySpec],
    question: Callable[[Any], Any],
    needs: Mapping[str, Needs],
    resources: Mapping[str, float],
) -> list[Any]:
    from raysplit.cluster.on_ray.cluster import RayCluster  # imports ray, after `connect` has prepared its environment

    options = config.cluster

    def layout(parties: Sequence[PartySpec]) -> Layout:
        plain = lay_out(
            parties,
            num_places=None if options.places == "auto" else options.places,
            cpus=resources.get("CPU", 1.0),
            sharing=options.sharing,
        )
        there = with_resources(plain, config.topology, parties) if config.topology else plain
        return with_needs(there, needs)

    cluster = RayCluster(layout, strategy=options.strategy, placement_timeout_s=options.placement_timeout_s)
    try:
        handles = await cluster.deploy(parties)
        return list(await gather(*[question(handles[party.name]) for party in parties]))
    finally:
        await cluster.close()
