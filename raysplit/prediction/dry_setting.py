"""Experiments whose tensors are only sizes, for simulation and planning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from torch import Generator, Tensor

from raysplit.algorithms import ALGORITHMS
from raysplit.algorithms.setting import OwnerData, Setting
from raysplit.data.batches import LocalTraining
from raysplit.experiment.errors import CannotBeSimulated, ConfigError
from raysplit.experiment.experiment import Experiment
from raysplit.experiment.topology import Topology
from raysplit.prediction.dry_run import DryModelSpec, DryShard
from raysplit.schedulers.cuts.profiles import Profile


def dry(experiment: Experiment, shard_sizes: Sequence[int] | None = None) -> Experiment:
    """Return the experiment with tensors that are only sizes, by the profile of its topology.

    Args:
        experiment: the experiment.
        shard_sizes: the number of samples of each owner; None takes those of the experiment.

    Raises:
        ConfigError: the experiment has no topology or profile.
        CannotBeSimulated: its algorithm depends on the values of tensors.
    """
    if not experiment.algorithm.can_be_simulated:
        able = [name for name, method in ALGORITHMS.items() if method.can_be_simulated]
        raise CannotBeSimulated(
            f"algorithm.name is {experiment.method}, which depends on values of tensors or several tasks "
            f"(can_be_simulated is False); use one that can be simulated: {', '.join(able)}, or your own"
        )
    given = experiment.setting
    _refuse_unmeasured(given)
    _refuse_other_lengths(experiment.required_topology, given)
    if frozen := [key for key in ("freeze", "train", "lora") if experiment.section("model").get(key)]:
        raise CannotBeSimulated(
            f"model.{frozen[0]} is set, and a profile counts all weights as trained and sent; leave it out for the "
            f"simulation"
        )
    if experiment.section("privacy").get("project"):
        raise CannotBeSimulated(
            "privacy.project is set, and in a simulation smashed data cross as the profile says; leave it out for the "
            "simulation"
        )
    sizes = shard_sizes or [len(data.shard) for data in given.owners.values()]
    training = LocalTraining(
        batch_size=given.training.batch_size,
        last_batch=given.training.last_batch,
        loss=given.training.loss,
        accumulate=given.training.accumulate,
    )
    setting = dry_setting(
        experiment.required_topology,
        sizes,
        may_send_inputs=may_send_inputs(experiment),
        training=training,
        local_epochs=given.local_epochs,
        max_steps=given.max_steps,
        seed=given.seed,
        cohort_size=given.cohort_size,
    )
    return replace(experiment, setting=setting)


def _refuse_unmeasured(setting: Setting) -> None:
    """Raise `CannotBeSimulated` for steps that a profile does not tell the times and sizes of."""
    clips_models = setting.clip is not None and setting.clip.scope == "model"
    reasons = [
        (setting.precision != "full", "model.precision is bf16", "the sizes in a profile are those of full precision"),
        (setting.vectorize > 1, "training.vectorize is set", "a profile has the times of one owner after another"),
        (setting.recompute, "model.recompute is true", "the passes in a profile keep their activations"),
        (clips_models, "training.clip has scope: model", "a profile does not say how many norms are exchanged"),
    ]
    for applies, what, why in reasons:
        if applies:
            raise CannotBeSimulated(f"{what}, and {why}; leave it out for the simulation")


def _refuse_other_lengths(topology: Topology, setting: Setting) -> None:
    """Raise `CannotBeSimulated` where the profiles are of samples of other lengths than the batches of the run."""
    found = {device.measured.length: name for name, device in topology.devices.items() if device.measured is not None}
    if len(found) > 1:
        (one, first), (other, second) = list(found.items())[:2]
        raise CannotBeSimulated(
            f"the profile of {first} was measured {_with_length(one)}, and that of {second} {_with_length(other)}; "
            f"measure both alike (raysplit profile CONFIG --length N)"
        )
    inputs = dict(getattr(setting.spec, "inputs", ()))
    length = next(iter(found), None)
    if inputs and found and any(entry.ragged for entry in inputs.values()) == (length is None):
        kind = "differ in length from batch to batch" if length is None else "have one shape"
        raise CannotBeSimulated(
            f"the samples {kind}, and the profile was measured {_with_length(length)}; measure the model with these "
            f"data: raysplit profile CONFIG (--length N for another length than that of the mean batch)"
        )


def _with_length(length: int | None) -> str:
    return "with samples of one shape" if length is None else f"with samples of length {length}"


def may_send_inputs(experiment: Experiment) -> bool:
    """Whether the model's section names inputs that may leave their owners."""
    return bool(experiment.section("model").get("send_inputs"))


def dry_setting(
    topology: Topology, shard_sizes: Sequence[int], *, may_send_inputs: bool = False, **rules: Any
) -> Setting:
    """Build a setting for owners with ``shard_sizes`` samples and the model that the topology has a profile of."""
    profile = reference_profile(topology)
    spec: Any = DryModelSpec(
        units=profile.units,
        batch_size=profile.batch_size,
        private_cut=profile.first_private_cut(),
        may_send_inputs=may_send_inputs,
    )
    return Setting(spec=spec, owners={f"owner-{i}": no_data(size) for i, size in enumerate(shard_sizes)}, **rules)


def no_data(num_samples: int = 0) -> OwnerData:
    """Return the data of an owner of which only the number of samples is known."""
    shard: Any = DryShard(num_samples=num_samples)
    return OwnerData(shard=shard, transform=_UNTOUCHED, eval_transform=_UNTOUCHED)


class _Untouched:
    draws: ClassVar[bool] = False

    def __call__(self, x: Tensor, gen: Generator) -> Tensor:
        return x


_UNTOUCHED = _Untouched()
"""One for all owners, whose inputs are alike."""


def reference_profile(topology: Topology) -> Profile:
    """Return the profile with the sizes of the model: that of the first node, or else of any device.

    Raises ``ConfigError`` where no device has a profile.
    """
    names = [*topology.nodes, *topology.devices]
    for name in names:
        profile = topology.devices[name].measured
        if profile is not None:
            return profile
    raise ConfigError("no device of the topology has a profile; raysplit profile measures one on this machine")
