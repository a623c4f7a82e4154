"""Convert files, mappings, keyword arguments and experiments to a checked configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from raysplit.algorithms import ALGORITHMS, check_run
from raysplit.algorithms.base import Algorithm, Setting
from raysplit.config.objects import kind_of, section
from raysplit.config.overrides import read_tree, without_file
from raysplit.config.run import RunConfig, check_config
from raysplit.experiment.errors import ConfigError
from raysplit.experiment.experiment import Experiment
from raysplit.given import EXPERIMENT, name_of
from raysplit.registry import one_of

SECTIONS = tuple(RunConfig.model_fields)


class Sections(TypedDict, total=False):
    """The sections of a configuration as keyword arguments; see `raysplit.train`."""

    seed: int
    model: Any
    data: Any
    partition: Any
    task: str | Mapping[str, Any] | None
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
    """Return the checked configuration of a source with sections on top. Raises `ConfigError`."""
    return config if isinstance(config, RunConfig) and not sections else check_config(tree_of(config, sections))


def tree_of(config: Source, sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return a source with sections on top as plain data, without checking the values.

    Raises `ConfigError` for an unknown section or a source of another type.
    """
    for key in sections:
        try:
            one_of("argument", key, SECTIONS)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    if isinstance(config, Experiment):
        raise ConfigError("an Experiment is already complete; give a file, a mapping or keyword arguments here")
    if config is None:
        tree = {}
    elif isinstance(config, str | Path):
        tree = read_tree(config)
    elif isinstance(config, RunConfig):
        tree = config.model_dump(mode="json")
    elif isinstance(config, Mapping):
        task = kind_of(sections.get("task", config.get("task")))
        tree = {key: section(key, value, task) for key, value in config.items()}
    else:
        raise ConfigError(f"expected a file name, a mapping of sections or an Experiment, got {type(config).__name__}")
    task = kind_of(sections.get("task", tree.get("task")))
    for key, value in sections.items():
        new, old = section(key, value, task), tree.get(key)
        tree[key] = {**old, **new} if isinstance(old, dict) and isinstance(new, dict) and "name" not in new else new
    return without_file(tree) if config is None else tree


def recorded(experiment: Experiment) -> Experiment:
    """Return an experiment that a program made, with the plain description that the run folder keeps.

    Its data have a name that no configuration file can have, because the data may differ from those of a file; such a
    run cannot be resumed from its folder. Raises `ConfigError` where its algorithm cannot train it, or does not use one
    of its settings.
    """
    try:
        check_run(type(experiment.algorithm), experiment.algorithm.options, experiment.outline)
    except ValueError as error:
        raise ConfigError(str(error)) from None
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
        "training": {**training, "batch_size": experiment.batch_size, **_owners_state(setting)},
        "topology": topology.model_dump(mode="json") if topology else None,
        **{
            key: getattr(experiment, key).model_dump(mode="json")
            for key in ("evaluation", "links", "cluster", "reliability")
        },
    }


def _owners_state(setting: Setting) -> dict[str, str]:
    return {"owner_optimizer_state": "restart" if setting.training.restart_optimizer else "keep"}


def method_name(kind: type[Algorithm]) -> str:
    """Return the name of a built-in algorithm, or the import path of any other class."""
    return kind.name if ALGORITHMS.get(getattr(kind, "name", "")) is kind else name_of(kind)
