"""From what a person gives, a file, keyword arguments, objects, to a checked configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from raysplit.algorithms import ALGORITHMS
from raysplit.algorithms.base import Algorithm
from raysplit.config.objects import section
from raysplit.config.overrides import read_tree
from raysplit.config.run import RunConfig, check_config
from raysplit.experiment.errors import ConfigError
from raysplit.experiment.experiment import Experiment
from raysplit.given import EXPERIMENT, name_of
from raysplit.registry import one_of

SECTIONS = tuple(RunConfig.model_fields)


class Sections(TypedDict, total=False):
    """What a configuration file takes, as keyword arguments; see `train`."""

    seed: int
    model: Any
    data: Any
    partition: Any
    owners: Mapping[str, Any]
    algorithm: Any
    training: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    links: Mapping[str, Any]
    cluster: str | Mapping[str, Any]
    topology: Mapping[str, Any] | None
    reliability: Mapping[str, Any]
    output: Mapping[str, Any]


Source = str | Path | Mapping[str, Any] | RunConfig | Experiment | None


def described(config: Source, sections: Mapping[str, Any]) -> RunConfig:
    """The checked configuration of a source and sections. Raises `ConfigError`."""
    return config if isinstance(config, RunConfig) and not sections else check_config(tree_of(config, sections))


def tree_of(config: Source, sections: Mapping[str, Any]) -> dict[str, Any]:
    """A source with sections on top, as plain data that is not yet checked."""
    for key in sections:
        try:
            one_of("argument", key, SECTIONS)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    if isinstance(config, Experiment):
        raise ConfigError("an Experiment is described to the end; give a file, a mapping or keyword arguments here")
    if config is None or isinstance(config, str | Path):
        tree = read_tree(config)
    elif isinstance(config, RunConfig):
        tree = config.model_dump(mode="json")
    elif isinstance(config, Mapping):
        tree = {key: section(key, value) for key, value in config.items()}
    else:
        raise ConfigError(f"expected a file name, a mapping of sections or an Experiment, got {type(config).__name__}")
    for key, value in sections.items():
        new, old = section(key, value), tree.get(key)
        tree[key] = {**old, **new} if isinstance(old, dict) and isinstance(new, dict) and "name" not in new else new
    return tree


def recorded(experiment: Experiment) -> Experiment:
    """An experiment that a program made, with what a run folder keeps of it.

    Its data go by a name that no file can follow, since they may be others than a file says: such a run is not resumed
    from its folder.
    """
    plain = {**(experiment.plain or _plain(experiment))}
    plain["data"] = {**plain.get("data", {}), "name": EXPERIMENT}
    return replace(experiment, plain=check_config(plain).model_dump(mode="json"))


def _plain(experiment: Experiment) -> dict[str, Any]:
    setting, algorithm, topology = experiment.setting, experiment.algorithm, experiment.topology
    training = {key: getattr(setting, key) for key in ("rounds", "local_epochs", "max_steps", "cohort_size")}
    return {
        "seed": setting.seed,
        "model": {"name": EXPERIMENT},
        "partition": {"num_owners": len(setting.owners)},
        "algorithm": {**algorithm.options.model_dump(mode="json"), "name": method_name(type(algorithm))},
        "training": {**training, "batch_size": experiment.batch_size},
        "topology": topology.model_dump(mode="json") if topology else None,
        **{
            key: getattr(experiment, key).model_dump(mode="json")
            for key in ("evaluation", "links", "cluster", "reliability")
        },
    }


def method_name(kind: type[Algorithm]) -> str:
    """The name of a built-in algorithm, or how a class of one's own is found."""
    return kind.name if ALGORITHMS.get(getattr(kind, "name", "")) is kind else name_of(kind)
