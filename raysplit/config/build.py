"""Build the `Experiment` that a checked configuration describes: data, owners, model, algorithm and rules.

The code that trains, predicts or records reads the experiment, never the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, cast

import numpy as np
from torch import Tensor

from raysplit.algorithms import resolve_algorithm
from raysplit.algorithms.setting import OwnerData, Setting
from raysplit.cluster.contract import PartySpec
from raysplit.config.by_owner.owners import OwnersData, owners_data
from raysplit.config.by_owner.stated import stated
from raysplit.config.checks import check_task
from raysplit.config.data.model_spec import model_spec
from raysplit.config.data.own_tasks import missing_values, own_tasks
from raysplit.config.data.tasks import task_settings
from raysplit.config.load_data import about, owner_data, ready, streamed_owners, told, whole
from raysplit.config.run import RunConfig
from raysplit.data.batches import LocalTraining
from raysplit.data.partition.by_label import Indices
from raysplit.data.partition.laws import TESTS_DRAWN
from raysplit.data.partition.own_tests import named_tests
from raysplit.data.record import Record
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sources.shards import STREAMED, StreamedShard
from raysplit.data.targets.own_tasks import of_tasks, with_own_tasks
from raysplit.experiment.evaluators import Evaluating, evaluating_parties, own_validators, tell_untested
from raysplit.experiment.experiment import Experiment
from raysplit.experiment.tasks import checked_task
from raysplit.models.spec import ModelSpec
from raysplit.prediction.dry_setting import dry, no_data
from raysplit.tasks import Task


def maker(config: RunConfig) -> Callable[[str], Experiment]:
    """Return a function that makes the experiment for a torch device; the data are loaded once for all devices."""
    built = cache(partial(build, config))

    def make(device: str) -> Experiment:
        experiment = built()
        return replace(experiment, setting=experiment.setting.on(device))

    return make


def build(config: RunConfig) -> Experiment:
    """Load and partition the data, and build the experiment that a checked configuration describes.

    Args:
        config: the checked configuration.

    Raises:
        ValueError: the data, the partition, the model and the training settings do not fit together.
    """
    if config.data.by_owner is not None:
        return _build_by_owner(config)
    own = None
    if config.data.name == STREAMED:
        found, shards, parts = streamed_owners(config)
        data, tests, aside = found.outline, None, [part[:0] for part in parts]
        if found.test_owner is not None:
            tests = named_tests(found.names, found.test_owner)
    else:
        data, parts, aside, tests = ready(config, partial(model_spec, config))
        if (own := own_tasks(config, data)) is not None:
            missing = missing_values(config, data)
            held = [np.concatenate(rows) for rows in zip(parts, aside, strict=True)]
            data = with_own_tasks(data, own, missing, held, tests)
        shards = [data.train.subset(part) for part in parts]
    names = [f"owner-{i}" for i in range(len(shards))]
    owners = {
        name: owner_data(config, data, i, shards[i], _own_test(config, data, tests, i)) for i, name in enumerate(names)
    }
    if own is not None:
        owners = {name: replace(owners[name], tasks=learned) for name, learned in zip(names, own, strict=True)}
    if own is not None and tests is None:
        owners = {
            name: replace(each, test=of_tasks(each.test or data.test, learned, missing))
            for (name, each), learned in zip(owners.items(), own, strict=True)
        }
    tell_untested(owners, tests)
    by_name = dict(zip(names, shards, strict=True))
    task = checked_task(task_settings(config), data, by_name, config.data.name)
    if task is not None:
        check_task(config, task.kind)
    if task is not None and config.data.name == STREAMED:
        task = stated(config, task, by_name)
        owners = {name: replace(each, shard=_checking(each.shard, task)) for name, each in owners.items()}
    setting = _setting(config, data, owners, task, dict(zip(names, tests, strict=True)) if tests else None)
    setting = replace(setting, own_validators=_own_validators(config, data, setting, aside))
    return _experiment(config, setting, parts, about(config, data, parts))


def _checking(shard: Any, task: Task) -> Samples:
    assert isinstance(shard, StreamedShard)
    return cast(Samples, shard.of_task(task))  # has the methods that owners call


def _build_by_owner(config: RunConfig) -> Experiment:
    """Build the experiment of owners that read their own sources, of which only outlines come here."""
    found = outlined(config)
    config = config.model_copy(update={"data": config.data.model_copy(update={"digests": found.digests})})
    task = found.task(config)
    if task is not None:
        check_task(config, task.kind)
    setting = _setting(config, found.data, found.owners, task, None)
    return _experiment(config, setting, found.parts, told(found.record(), config.data.name))


def outlined(config: RunConfig) -> OwnersData:
    """Ask the owners that read their own sources what these hold. Raises ``ValueError`` where owners disagree."""
    return owners_data(config, partial(model_spec, config))


def model_and_data(config: RunConfig) -> tuple[ModelSpec, DataSet]:
    """Load the data, and return the model that a checked configuration names beside them. Raises as `build`."""
    spec_of = partial(model_spec, config)
    if config.data.by_owner is not None:
        data = outlined(config).data
    else:
        data = whole(config, spec_of) if config.data.name != STREAMED else streamed_owners(config)[0].outline
    return spec_of(data), data


def build_dry(config: RunConfig, shard_sizes: Sequence[int] | None = None) -> Experiment:
    """Build an experiment whose tensors are only sizes, for simulation and planning.

    Args:
        config: the checked configuration.
        shard_sizes: number of samples of each owner; None takes ``topology.samples_per_owner``, or loads and
            partitions the data where it is not set.

    Raises:
        ConfigError: the configuration has no topology, or its algorithm cannot be simulated.
    """
    spec = ModelSpec(name=config.model.name, input_shape=(1,), num_classes=1, seed=config.seed)
    if config.topology is None or not resolve_algorithm(config.algorithm.name).can_be_simulated:
        sizes: Sequence[int] = (1,)  # refused below
    elif shard_sizes:
        sizes = shard_sizes
    elif config.topology.samples_per_owner is not None:
        sizes = [config.topology.samples_per_owner] * config.partition.num_owners
    else:
        found = build(config).setting
        spec, sizes = found.spec, [len(data.shard) for data in found.owners.values()]
    setting = Setting(
        spec=spec,
        owners={f"owner-{i}": no_data() for i in range(len(sizes))},
        training=_local_training(config, config.training.loss),
        **_steps(config),
        seed=config.seed,
        cohort_size=config.training.cohort_size,
    )
    return dry(_experiment(config, setting, ()), sizes)


def _experiment(
    config: RunConfig, setting: Setting, parts: Sequence[np.ndarray], about_data: Record | None = None
) -> Experiment:
    plain = config.model_dump(mode="json")
    plain["model"]["front_end"] = getattr(setting.spec, "front_end", config.model.front_end)
    return Experiment(
        algorithm=resolve_algorithm(config.algorithm.name)(options=config.algorithm.resolved_options()),
        setting=setting,
        parts=tuple(parts),
        evaluation=config.evaluation,
        reliability=config.reliability,
        links=config.links,
        cluster=config.cluster,
        topology=config.topology,
        plain=plain,
        about_data=about_data or {},
    )


def _setting(
    config: RunConfig,
    data: DataSet,
    owners: dict[str, OwnerData],
    task: Task | None,
    tests: Mapping[str, Indices] | None,
) -> Setting:
    training, spec = config.training, model_spec(config, data)
    cuts = resolve_algorithm(config.algorithm.name).options_type.model_fields.keys() & {"cut", "cuts"}
    if cuts and type(spec) is ModelSpec:
        spec = spec.with_front_end()
    loss = task or training.loss
    _check_metric(config, data)
    how = Evaluating(spec=spec, loss=loss, seed=config.seed)
    parties = partial(evaluating_parties, owners=owners, transform=data.eval_transform, how=how)
    return Setting(
        spec=spec,
        owners=owners,
        training=_local_training(config, loss),
        **_steps(config),
        optimizer=training.optimizer.spec(),
        server_optimizer=(training.server_optimizer or training.optimizer).spec(),
        restart_server_optimizer=training.server_optimizer_state == "restart",
        buffers=training.buffers,
        seed=config.seed,
        tests_at_owners=config.data.by_owner is not None,
        evaluators=()
        if config.data.by_owner is not None
        else parties("evaluator", data.test, tests=tests, drawn=config.partition.name in TESTS_DRAWN),
        validators=() if data.val is None else parties("validator", data.val),
        updates=config.reliability,
        cohort=config.reliability,
        cohort_size=training.cohort_size,
        weight_by=training.weight_by,
        privacy=config.privacy,
        init=config.model.init,
    )


def _own_validators(
    config: RunConfig, data: DataSet, setting: Setting, aside: Sequence[Indices]
) -> tuple[PartySpec, ...]:
    """Describe the parties that hold what owners set aside, with the noise and the domain that their samples have."""
    held = {
        name: owner_data(config, data, index, data.train.subset(indices), None).shard
        for index, (name, indices) in enumerate(zip(setting.owners, aside, strict=True))
        if len(indices)
    }
    how = Evaluating(spec=setting.spec, loss=setting.training.loss, seed=config.seed)
    return own_validators(held, setting.owners, how)


def _local_training(config: RunConfig, loss: str | Task) -> LocalTraining:
    training = config.training
    return LocalTraining(
        batch_size=training.batch_size,
        shuffle=training.shuffle,
        last_batch=training.rule_of_last_batch,
        restart_optimizer=training.restarts_owners(resolve_algorithm(config.algorithm.name)),
        loss=loss,
        accumulate=training.accumulate,
        seed=config.seed,
    )


def _steps(config: RunConfig) -> dict[str, Any]:
    """Return the fields of a `Setting` that say how many steps there are, and what a step does."""
    length, schedule = ("rounds", "local_epochs", "max_steps"), ("lr_schedule", "lr_schedule_per", "warmup_steps")
    names = (*length, *schedule, "clip", "vectorize")
    rules = {name: getattr(config.training, name) for name in names}
    return rules | {"precision": config.model.precision, "recompute": config.model.recompute}


def _check_metric(config: RunConfig, data: DataSet) -> None:
    """Raise ``ValueError`` for a rule about accuracies where there are none."""
    rules, targets = config.evaluation, data.test.y
    wanted = {"target_accuracy": rules.target_accuracy, "metric": "accuracy" if rules.metric == "accuracy" else None}
    instead = {"target_accuracy": "use evaluation.target_loss", "metric": "set evaluation.metric to loss"}
    named = [key for key, value in wanted.items() if value is not None]
    if named and not isinstance(targets, Tensor) and any(y.ndim > 1 for y in targets.values()):
        raise ValueError(
            f"evaluation.{named[0]} is {wanted[named[0]]}, and the tasks {', '.join(targets)} have no class labels, so "
            f"there is no accuracy; {instead[named[0]]}, or leave it out"
        )


def _own_test(config: RunConfig, data: DataSet, tests: Sequence[Indices] | None, index: int) -> Samples | None:
    """Return an owner's own test samples: all where only its inputs are its own, none where others' are theirs."""
    if tests is not None:
        return data.test.subset(tests[index]) if len(tests[index]) else None
    return data.test if config.owners.has_domains else None
