"""Checks of a configuration that take several sections, made before anything is read or started."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from raysplit.algorithms import ALGORITHMS, check_run, resolve_algorithm
from raysplit.algorithms.unused import RunOutline, codecs_left_out
from raysplit.config.data.tasks import loss_of
from raysplit.experiment.errors import ConfigError
from raysplit.given import EXPERIMENT
from raysplit.paths import is_uri
from raysplit.tasks import loss_name

if TYPE_CHECKING:
    from raysplit.config.run import RunConfig

logger = logging.getLogger(__name__)

MAX_VALUES = 100_000
"""Number of values of a configuration, those behind anchors counted as often as they are named."""
MAX_DEPTH = 32
"""Levels of mappings and lists of a configuration; the sections have five."""


def check_size(tree: object) -> None:
    """Raise `ConfigError` for settings that are nested deeper, or are more, than those of any run."""
    waiting: list[tuple[object, int]] = [(tree, 0)]
    for count in range(MAX_VALUES + 1):
        if not waiting:
            return
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ConfigError(f"the configuration has values that are nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, Mapping | list | tuple):
            inner = value.values() if isinstance(value, Mapping) else value
            waiting += [(one, depth + 1) for one in islice(inner, MAX_VALUES + 1 - count)]
    raise ConfigError(
        f"the configuration has more than {MAX_VALUES:,} values, with anchors written out; leave some out"
    )


_ON_RAY_ONLY = frozenset(
    f"cluster.{key}"
    for key in (
        "address",
        "num_cpus",
        "places",
        "sharing",
        "strategy",
        "object_store_mib",
        "placement_timeout_s",
        "dashboard",
        "gpus_per_place",
    )
)


def check_method(config: RunConfig, *, is_recorded: bool) -> None:
    """Raise ``ValueError`` for a run that its method cannot train, or that sets what its method does not use.

    A recorded run was trained before: its mistakes are logged. An `Experiment`, whose owners may have other names, has
    been checked by itself.
    """
    if config.data.name == EXPERIMENT:
        return
    options = config.algorithm.resolved_options()
    try:
        check_run(resolve_algorithm(config.algorithm.name), options, outline_of(config))
    except ValueError as error:
        if not is_recorded:
            raise
        logger.warning("in the configuration of this run, %s", error)


def check_task(config: RunConfig, kind: str) -> None:
    """Raise ``ValueError`` for a task, which the data may have said, that the method of the run cannot train."""
    method = resolve_algorithm(config.algorithm.name)
    check_run(method, config.algorithm.resolved_options(), replace(outline_of(config), loss=loss_name(kind)))


def outline_of(config: RunConfig) -> RunOutline:
    """Return what the settings alone tell of a run."""
    rules, elastic = config.reliability, config.cluster.elastic
    return RunOutline(
        owners=tuple(f"owner-{i}" for i in range(config.partition.num_owners)),
        rounds=config.training.rounds,
        loss=loss_of(config),
        cohort_size=config.training.cohort_size,
        updates=rules,
        cohort=rules,
        may_lose_owners=rules.is_open or rules.drops_owners,
        min_owners=elastic.min_owners if elastic else None,
        given=_given(config),
    )


_OF_MODELS = {"precision": "full", "recompute": False, "freeze": (), "train": (), "lora": None, "init": "seed"}
"""Settings of models that methods read, with their defaults."""


def _given(config: RunConfig) -> dict[str, Any]:
    """Return the shared settings that differ from their defaults, by key."""
    names = ("training", "evaluation", "owners", "links", "privacy", "cluster", "reliability")
    sections = {name: getattr(config, name) for name in names}
    values = {
        f"{name}.{key}": (getattr(section, key), getattr(type(section)(), key))
        for name, section in sections.items()
        for key in type(section).model_fields
    }
    by_kind = {f"links.{rule.kind}": rule for rule in config.links.rules}  # a rule sets the codec of its kind
    values |= {f"model.{key}": (getattr(config.model, key), default) for key, default in _OF_MODELS.items()}
    return {**by_kind, **{key: value for key, (value, default) in values.items() if value != default}}


def check_ledgers(config: RunConfig) -> None:
    """Raise ``ValueError`` where the owners' ledgers would be in a copy of a run folder that does not stay."""
    privacy, root = config.privacy, config.output.root
    if privacy.drawn and not privacy.rehearsal and privacy.ledger is None and is_uri(root):
        raise ValueError(
            f"output.root is {root}, and owners keep their ledgers on their own machines; set privacy.ledger to a "
            f"folder there"
        )


def check_elastic(config: RunConfig) -> None:
    """Raise ``ValueError`` for an elastic run that could not begin or not go on."""
    cluster, rules, owners = config.cluster, config.cluster.elastic, config.partition.num_owners
    if rules is None:
        return
    if rules.min_owners > owners:
        raise ValueError(
            f"cluster.elastic.min_owners is {rules.min_owners} and there are {owners} owners, so no round could begin; "
            f"give at most {owners}"
        )
    if isinstance(cluster.places, int) and cluster.sharing != "alone" and rules.min_places > cluster.places:
        raise ValueError(
            f"cluster.elastic.min_places is {rules.min_places} and cluster.places is {cluster.places}, so no round "
            f"could begin; give at most {cluster.places}"
        )
    if cluster.kind == "ray" and cluster.places == "auto" and cluster.sharing == "auto":
        raise ValueError("an elastic run grows to cluster.places, which is auto; set a number, or sharing: alone")
    if config.reliability.checkpoint_every is None:
        raise ValueError(
            "an elastic run continues from the last checkpoint when owners leave or come back, and "
            "reliability.checkpoint_every is null; set it to 1"
        )
    if config.topology is not None and config.topology.pace:
        raise ValueError(
            "topology.pace is true, and a paced run cannot be elastic; set pace: false or leave elastic out"
        )


def check_vectorized(config: RunConfig) -> None:
    """Raise ``ValueError`` for owners that are computed at once on machines of their own."""
    if config.training.vectorize > 1 and config.topology is not None and config.topology.pace:
        raise ValueError(
            f"training.vectorize is {config.training.vectorize}, and topology.pace lets every owner take the time of "
            f"its own machine; set pace: false or leave training.vectorize out"
        )


def say_unused(config: RunConfig) -> None:
    """Warn of settings that have no effect beside the others, which a sweep may set on purpose."""
    rules, owners, options = config.reliability, config.owners, config.algorithm.resolved_options()
    method = resolve_algorithm(config.algorithm.name)
    if config.data.name != EXPERIMENT and (left_out := codecs_left_out(method, outline_of(config))):
        _say(left_out)
    for key, reason in options.idle().items():
        _say(f"algorithm.{key} is {getattr(options, key)}, and has no effect, because {reason}")
    if rules.quorum != type(rules)().quorum and not (rules.is_open or rules.drops_owners or config.cluster.elastic):
        _say(f"reliability.quorum is {rules.quorum:g}, and no round of this run continues without some of its owners")
    if rules.exclude_after != type(rules)().exclude_after and rules.on_bad_update == "stop":
        _say(f"reliability.exclude_after is {rules.exclude_after}, and with on_bad_update: stop no owner is excluded")
    if rules.tolerated != type(rules)().tolerated and rules.aggregation in ("mean", "median"):
        _say(f"reliability.tolerated is {rules.tolerated}, and the {rules.aggregation} does not use it")
    if rules.late == "merge" and not rules.is_open:
        _say("reliability.late is merge, and without round_deadline_s or over_selection no update is late")
    for key in ("pixel_noise", "label_noise"):
        if getattr(owners, key) and not owners.noisy:
            _say(f"owners.{key} is {getattr(owners, key):g} and owners.noisy is 0, so no owner has noise")
    if owners.noisy and not (owners.pixel_noise or owners.label_noise):
        _say(f"owners.noisy is {owners.noisy} and the noise is 0; set owners.pixel_noise or owners.label_noise")
    for key, optimizer in (
        ("optimizer", config.training.optimizer),
        ("server_optimizer", config.training.server_optimizer),
    ):
        if optimizer is not None and not optimizer.lr and not any(group.lr for group in optimizer.groups):
            _say(f"training.{key}.lr is 0, so that nothing is trained with it")
    if config.cluster.kind == "local" and (idle := [key for key in _given(config) if key in _ON_RAY_ONLY]):
        _say(f"{', '.join(idle)}: without effect, since cluster.kind is local")


@cache
def _say(text: str) -> None:
    logger.warning("%s", text)


@cache
def say_left_out(method: str, options: tuple[str, ...]) -> None:
    """Warn, once in a process, of options that only other algorithms have."""
    own = ", ".join(resolve_algorithm(method).options_type.model_fields) or "none"
    for option in options:
        others = [name for name, other in ALGORITHMS.items() if option in other.options_type.model_fields]
        logger.warning(
            "algorithm.%s is left out: it is an option of %s, and those of %s are: %s",
            option,
            ", ".join(others),
            method,
            own,
        )
