"""Load the data of a configuration, divide them among the owners, and say what they hold.

With ``data.name: shards`` the owners read their own files; see `raysplit.data.sources.shards`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from torch import Tensor

from raysplit.algorithms.setting import OwnerData
from raysplit.config.run import RunConfig
from raysplit.data.datasets import load_dataset
from raysplit.data.domains import domain, flip_labels
from raysplit.data.partition.aside import set_aside
from raysplit.data.partition.by_label import Indices
from raysplit.data.partition.laws import goes_by_label, partition, partition_test
from raysplit.data.partition.own_tests import own_tests
from raysplit.data.record import Record, data_record
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sequences.masking import makes_targets
from raysplit.data.sequences.padding import Padding, padded
from raysplit.data.sources.shards import STREAMED, ShardSet, open_shards
from raysplit.data.targets.of_samples import kind_of, labels_of
from raysplit.data.transforms import GaussianNoise, Transform, with_domain
from raysplit.models.limits import limits_of
from raysplit.models.spec import ModelSpec
from raysplit.models.token_limits import check_tokens
from raysplit.registry import number_of
from raysplit.seeding import derive, generator

logger = logging.getLogger(__name__)


def streamed_owners(config: RunConfig) -> tuple[ShardSet, list[Samples], list[np.ndarray]]:
    """Return the opened data, the shard of every owner, and the indices of its samples.

    Raises:
        ValueError: a setting needs all samples in one process, or the partition does not match the files.
    """
    section, split = config.data, config.partition
    if section.root is None:
        raise ValueError("data.name is shards and data.root is missing; set it to the folder or URI with train/")
    for setting, value in (
        ("data.train_samples", section.train_samples),
        ("data.test_samples", section.test_samples),
        ("data.validation", section.validation),
        ("owners.label_noise", config.owners.label_noise),
        ("owners.tasks", config.owners.tasks and "given"),
    ):
        if value:
            raise ValueError(
                f"{setting} is {value}, which does not apply to owners that read their own files; leave it out"
            )
    found = open_shards(section.root, reading=section.reading(config.task), **section.options)
    if split.name != "natural_id" or split.num_owners != len(found.shards):
        raise ValueError(
            f"{section.root}/train has {len(found.shards)} files, one for each owner, and the partition is "
            f"{split.name} over {number_of(split.num_owners, 'owner')}; set partition.name=natural_id and "
            f"partition.num_owners={len(found.shards)}"
        )
    ends = np.cumsum([len(shard) for shard in found.shards])
    parts = [np.arange(end - len(shard), end) for end, shard in zip(ends, found.shards, strict=True)]
    shards = [cast(Samples, shard) for shard in found.shards]  # has the methods of Samples that owners call
    return found, shards, parts


def load(config: RunConfig) -> DataSet:
    """Load the data set of a configuration, or the part of it that is asked for.

    Samples of different lengths that are cut to the positions of a model are not cut here.
    """
    section = config.data
    data = load_dataset(
        section.name,
        root=section.root,
        download=section.download,
        augment=section.augment,
        reading=section.reading(config.task),
        **section.options,
    )
    train, owner = data.train, data.natural_owner
    if section.train_samples is not None:
        chosen = _draw(len(train), section.train_samples, config.seed, "training subset")
        train, owner = train.subset(chosen), owner[chosen] if owner is not None else None
    test, test_owner = data.test, data.test_owner
    if section.test_samples is not None:
        chosen = _draw(len(test), section.test_samples, config.seed, "test subset")
        test, test_owner = test.subset(chosen), test_owner[chosen] if test_owner is not None else None
    part = replace(data, train=train, test=test, natural_owner=owner, test_owner=test_owner)
    padding = padding_of(config, part)
    return part if padding.needs_model else padded(part, padding)


def padding_of(config: RunConfig, data: DataSet) -> Padding:
    """Return the rule for the length of batches. Raises ``ValueError`` for one that data or algorithm do not take."""
    section = config.data
    given = {key: getattr(section, key) for key in ("pad_to", "pad_multiple", "truncate")}
    if not data.train.ragged:
        if named := [key for key, value in given.items() if value not in (None, 1, False)]:
            raise ValueError(
                f"data.{named[0]} is {given[named[0]]} and all samples of data {section.name!r} have one length; leave "
                f"it out"
            )
        return Padding()
    joins = config.algorithm.resolved_options().joins_rows
    if joins and section.pad_to == "longest":
        raise ValueError(
            f"data.pad_to is longest, so that batches of owners differ in length, and {config.algorithm.name} joins "
            f"their rows in one forward pass; set data.pad_to: max or a number, or algorithm.server_forward: grad_avg"
        )
    to = section.pad_to or ("max" if joins else "longest")
    return Padding(pad_to=to, multiple=section.pad_multiple, truncate=section.truncate)


def within_positions(config: RunConfig, data: DataSet, spec_of: Callable[[DataSet], ModelSpec]) -> DataSet:
    """Return data whose samples are cut to the positions of their model, where ``data.truncate`` says so."""
    padding = padding_of(config, data)
    if not padding.needs_model:
        return data
    positions = limits_of(spec_of(data).build()).positions
    if positions is None:
        raise ValueError(
            f"data.truncate is true, and the model {config.model.name!r} does not say how many positions it has; set "
            f"data.pad_to to a number"
        )
    return padded(data, replace(padding, limit=positions))


def _draw(total: int, wanted: int, seed: int, purpose: str) -> np.ndarray:
    if wanted > total:
        raise ValueError(f"the {purpose} needs {wanted} samples and the set has only {total}; set at most {total}")
    return np.sort(generator(seed, purpose).choice(total, size=wanted, replace=False))


def _by_owner(parts: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"owner-{i}": part for i, part in enumerate(parts)}


def _kinds(config: RunConfig) -> dict[str, str]:
    return {name: task.kind for name, task in config.data.by_target.items()}


def divided(config: RunConfig, data: DataSet) -> tuple[list[Indices], list[Indices] | None]:
    """Divide the training samples among the owners, and the test samples where each has an owner.

    Samples without a label are a class of their own.
    """
    split, kinds = config.partition, _kinds(config)
    labels, test_labels = labels_of(data.train, kinds), labels_of(data.test, kinds)
    if taken := split.options.keys() & {"labels", "num_classes", "natural_owner", "seed"}:
        raise ValueError(f"partition.{min(taken)} is given by the data and the seed of the run; leave it out")
    if isinstance(data.train.y, Tensor) and kind_of(data.train) != "classification" and goes_by_label(split.name):
        raise ValueError(
            f"partition.name is {split.name}, which divides samples by class label, and the targets of these data are "
            f"none; use iid, quantity or natural_id"
        )
    if kinds and goes_by_label(split.name) and "classification" not in kinds.values():
        raise ValueError(
            f"partition.name is {split.name}, which divides samples by class label, and none of the tasks "
            f"{', '.join(kinds)} has classes; use iid, quantity or natural_id"
        )
    num_classes = int(max(labels.max(), test_labels.max())) + 1  # counted once, over both sides
    if any((y < 0).any() for y in (labels, test_labels)):
        labels, test_labels = (np.where(y < 0, num_classes, y) for y in (labels, test_labels))
        num_classes += 1
    how = {"seed": config.seed, "num_classes": num_classes, **split.options}
    parts = partition(split.name, labels, split.num_owners, natural_owner=data.natural_owner, **how)
    tests = partition_test(split.name, test_labels, split.num_owners, **how)
    if tests is None:
        owners = {"natural_owner": data.natural_owner, "test_owner": data.test_owner}
        tests = own_tests(split.name, parts, labels, test_labels, seed=config.seed, **owners)
    return parts, tests


def prepared(data: DataSet, parts: Sequence[np.ndarray]) -> DataSet:
    """Return the data set once it is known whose training samples are whose."""
    return data if data.prepare is None else data.prepare(data, _by_owner(parts))


def whole(config: RunConfig, spec_of: Callable[[DataSet], ModelSpec]) -> DataSet:
    """Load the data as a model gets them, also where the owners decide what these are."""
    data = within_positions(config, load(config), spec_of)
    return data if data.prepare is None else prepared(data, _trained_on(config, data, divided(config, data)[0])[0])


def _trained_on(config: RunConfig, data: DataSet, parts: list[Indices]) -> tuple[list[Indices], list[Indices]]:
    """Return the indices of each owner's training samples, and of those that it sets aside. Raises ``ValueError``."""
    share = config.data.validation
    if share and makes_targets(data.transform):
        raise ValueError(
            f"data.validation is {share:g}, and with data.masked training samples have other targets in every step; "
            f"leave one of them out"
        )
    if share and data.val is not None:
        raise ValueError(
            f"data.validation is {share:g}, and the data {config.data.name!r} have validation samples of their own; "
            f"leave it out, and set their number by the options of the data"
        )
    return set_aside(parts, share, config.seed)


def ready(
    config: RunConfig, spec_of: Callable[[DataSet], ModelSpec]
) -> tuple[DataSet, list[Indices], list[Indices], list[Indices] | None]:
    """Load and divide the data, and return them as a model gets them, with the indices of each owner's samples.

    These are its training samples, those that it sets aside, and its test samples where they are known. Raises
    ``ValueError`` for tokens that the model does not know, and for samples that are longer than it takes.
    """
    data = within_positions(config, load(config), spec_of)
    parts, tests = divided(config, data)
    parts, aside = _trained_on(config, data, parts)
    data = prepared(data, parts)
    check_tokens(data, spec_of(data), parts)
    return data, parts, aside, tests


def inspect_data(config: RunConfig, *, with_owners: bool) -> Record:
    """Load the data of a configuration, and return what they hold and what is done with them.

    Args:
        config: the checked configuration; its model and its algorithm do not matter.
        with_owners: whether to divide the samples among the owners.

    Raises:
        ValueError: the data, or with owners the partition, do not fit the settings.
    """
    if config.data.name == STREAMED:
        found, _, parts = streamed_owners(config)
        return data_record(found.outline, config.data.name, _by_owner(parts), _kinds(config))
    data = load(config)
    parts = []
    if with_owners or data.prepare is not None:
        parts, _ = _trained_on(config, data, divided(config, data)[0])
    owners = _by_owner(parts) if with_owners else None
    return data_record(prepared(data, parts), config.data.name, owners, _kinds(config))


def about(config: RunConfig, data: DataSet, parts: Sequence[np.ndarray]) -> Record:
    """Return the record of the data, and warn of its problems."""
    return told(data_record(data, config.data.name, _by_owner(parts), _kinds(config)), config.data.name)


def told(record: Record, name: str) -> Record:
    """Log what was done with data and their problems, and return their record."""
    for line in record["done"]:
        logger.info("data %s: %s", name, line)
    for problem in record["problems"]:
        logger.warning("data %s: %s", name, problem)
    return record


def owner_data(config: RunConfig, data: DataSet, index: int, shard: Samples, test: Samples | None) -> OwnerData:
    """Return the data of one owner, with its domain and its noise. Raises ``ValueError``."""
    owners, num_owners = config.owners, config.partition.num_owners
    transform, eval_transform = data.transform, data.eval_transform
    if owners.domain is not None or owners.pixel_noise:
        data.require_pictures("owners.domain and owners.pixel_noise change")
    if owners.domain is not None:
        if len(data.input_shape) != 3:
            raise ValueError(
                f"owners.domain {owners.domain} maps pictures (channels, height, width), and an input of these data "
                f"has the shape {data.input_shape}; leave it out, or set data.input_shape where the data have it"
            )
        own = domain(
            owners.domain, owner=index, num_owners=num_owners, num_channels=data.input_shape[0], seed=config.seed
        )
        transform, eval_transform = with_domain(transform, own), with_domain(eval_transform, own)
    if index >= num_owners - owners.noisy:
        transform, eval_transform = _noisy(transform, owners.pixel_noise), _noisy(eval_transform, owners.pixel_noise)
        if owners.label_noise:
            seed, classes = derive(config.seed, "label noise"), _classes_of_labels(data)
            shard = flip_labels(shard, fraction=owners.label_noise, num_classes=classes, seed=seed, owner=index)
    return OwnerData(shard=shard, test=test, transform=transform, eval_transform=eval_transform)


def _classes_of_labels(data: DataSet) -> int | dict[str, int]:
    """Return the number of classes, or that of each task. Raises ``ValueError`` where there are no class labels."""
    if isinstance(data.train.y, Tensor):
        return data.num_classes
    if data.classes is None:
        raise ValueError(
            f"owners.label_noise flips class labels, and the tasks {', '.join(data.train.y)} of the data have none; "
            f"leave it out, or use owners.pixel_noise"
        )
    return {task: len(names) for task, names in data.classes.items()}


def _noisy(transform: Transform, sigma: float) -> Transform:
    return with_domain(transform, GaussianNoise(sigma=sigma)) if sigma else transform
