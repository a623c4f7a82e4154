"""An experiment in which tensors are sizes: what a simulation acts out, and what cuts are planned for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Generator, Tensor

from raysplit.actors.data_owner import LocalTraining
from raysplit.algorithms import ALGORITHMS
from raysplit.algorithms.setting import OwnerData, Setting
from raysplit.experiment.errors import CannotBeSimulated, ConfigError
from raysplit.experiment.experiment import Experiment
from raysplit.experiment.topology import Topology
from raysplit.prediction.dry_run import DryModelSpec, DryShard
from raysplit.schedulers.cuts.profiles import Profile


def dry(experiment: Experiment, shard_sizes: Sequence[int] | None = None) -> Experiment:
    """The experiment over tensors that are sizes, of the profile of its topology.

    Args:
        shard_sizes: samples of each owner; None takes those of the experiment.

    Raises `CannotBeSimulated` for a method whose course depends on values.
    """
    if not experiment.algorithm.can_be_simulated:
        able = [name for name, method in ALGORITHMS.items() if method.can_be_simulated]
        raise CannotBeSimulated(
            f"algorithm.name is {experiment.method}, whose course depends on values or on several tasks "
            f"(can_be_simulated is False); what can be simulated is {', '.join(able)}, and algorithms of your own"
        )
    given = experiment.setting
    sizes = shard_sizes or [len(data.shard) for data in given.owners.values()]
    training = LocalTraining(
        batch_size=given.training.batch_size, drop_last=given.training.drop_last, loss=given.training.loss
    )
    setting = dry_setting(
        experiment.required_topology,
        sizes,
        training=training,
        local_epochs=given.local_epochs,
        max_steps=given.max_steps,
        seed=given.seed,
        cohort_size=given.cohort_size,
    )
    return replace(experiment, setting=setting)


def dry_setting(topology: Topology, shard_sizes: Sequence[int], **rules: Any) -> Setting:
    """A setting of owners with so many samples, and of the model that the topology has a profile of."""
    profile = reference_profile(topology)
    spec: Any = DryModelSpec(units=profile.units, batch_size=profile.batch_size)
    return Setting(spec=spec, owners={f"owner-{i}": no_data(size) for i, size in enumerate(shard_sizes)}, **rules)


def no_data(num_samples: int = 0) -> OwnerData:
    """What an owner holds of whom nothing but the number of samples is known."""
    shard: Any = DryShard(num_samples=num_samples)
    return OwnerData(shard=shard, transform=_untouched, eval_transform=_untouched)


def _untouched(x: Tensor, gen: Generator) -> Tensor:
    return x


def reference_profile(topology: Topology) -> Profile:
    """The profile whose sizes hold for the model: that of the first node, else of any device."""
    names = [*topology.nodes, *topology.devices]
    for name in names:
        profile = topology.devices[name].measured
        if profile is not None:
            return profile
    raise ConfigError("no device of the topology has a profile; raysplit profile measures one on this machine")
