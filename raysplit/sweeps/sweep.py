"""Grid of runs: every combination of the values of some settings, each in a folder of its own.

Finished cells are kept, so a sweep that was interrupted, or that got more values, continues where it stopped.
"""

from __future__ import annotations

import copy
import itertools
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from raysplit.cluster.on_ray.connect import ray_left_as_found, run_tasks
from raysplit.config.errors import ConfigError
from raysplit.config.run import RunConfig, check_config, dump_config, load_recorded, resolved
from raysplit.runs.folder import finished
from raysplit.training.cluster import ray_options

logger = logging.getLogger(__name__)

_NOT_THE_RUN = ("cluster", "output", "reliability")
"""Sections that do not change the numbers of a run, so that a cell may finish with other values of them."""


Train = Callable[[RunConfig, Path], object]
"""Function that trains a configuration into a folder; it must be picklable by name."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Setting such as ``partition.alpha`` and its values."""

    key: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ConfigError(f"{self.key} has no values to sweep; write --over {self.key}=first,second")
        if len({repr(value) for value in self.values}) < len(self.values):
            raise ConfigError(f"{self.key} has the same value twice: {list(self.values)}; give each value once")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Run of a sweep: its values by key, and its configuration."""

    values: Mapping[str, Any]
    config: RunConfig

    @property
    def name(self) -> str:
        """Name of the folder, such as ``partition.alpha=0.1,algorithm.name=mtsl``."""
        return ",".join(f"{key}={_in_a_name(value)}" for key, value in self.values.items())


def parse_axis(text: str) -> Axis:
    """Parse ``key=a,b,c``; the values are YAML, so a list or mapping in brackets is one value."""
    key, equals, values = text.partition("=")
    if not equals or not key.strip() or ("." not in key and key.strip() != "seed"):
        raise ConfigError(f"--over {text!r} does not have the form section.key=value,value")
    try:
        parsed = yaml.safe_load(f"[{values}]")
    except yaml.YAMLError as error:
        raise ConfigError(f"--over {text!r}: the values are not valid YAML: {error}") from error
    return Axis(key=key.strip(), values=tuple(parsed))


def cells(tree: Mapping[str, Any], axes: Sequence[Axis]) -> list[Cell]:
    """Build and check all combinations, with the last axis fastest. Raises `ConfigError` for the first wrong one."""
    keys = [axis.key for axis in axes]
    if len(set(keys)) < len(keys):
        raise ConfigError(f"a key can be swept only once, got {', '.join(keys)}; put all its values into one --over")
    found = []
    for combination in itertools.product(*(axis.values for axis in axes)):
        values = dict(zip(keys, combination, strict=True))
        changed = copy.deepcopy(dict(tree))
        for key, value in values.items():
            _put(changed, key, value)
        try:
            found.append(Cell(values=values, config=check_config(changed)))
        except ConfigError as error:
            raise ConfigError(f"with {', '.join(f'{k}={v}' for k, v in values.items())}: {error}") from None
    return found


def run_cells(
    grid: Sequence[Cell],
    folder: Path,
    *,
    train: Train,
    parallel: int = 1,
    done: Callable[[Cell, bool], None] = lambda *_: None,
) -> dict[str, str]:
    """Run the unfinished cells, each in a folder of its name below ``folder``.

    Args:
        grid: the cells.
        folder: the parent of the run folders.
        train: the function that trains a configuration into a folder.
        parallel: the number of runs at a time. 1 runs them in order on the configured cluster; more run as Ray tasks
            of one process each, with the same numbers.
        done: a function that is called with each finished cell, and whether it had finished before.

    Returns:
        The error messages of the failed cells by name; all other cells have finished.

    Raises:
        ConfigError: a finished cell was run with other settings.
    """
    waiting = [cell for cell in grid if not is_finished(folder / cell.name, cell.config)]
    for cell in grid:
        if cell not in waiting:
            done(cell, True)
    failures = {}
    with ray_left_as_found():
        outcomes = _one_by_one(waiting, folder, train) if parallel == 1 else _as_tasks(waiting, folder, train, parallel)
        for cell, error in outcomes:
            if error is None:
                done(cell, False)
            else:
                failures[cell.name] = error
                logger.error("%s failed: %s", cell.name, error)
    return failures


def is_finished(folder: Path, config: RunConfig) -> bool:
    """Return whether a folder has this run, finished. Raises `ConfigError` if it has a run with other settings."""
    if not finished(folder):
        return False
    pair = (load_recorded(folder / "config.yaml"), config)
    before, now = (yaml.safe_load(dump_config(resolved(c))) for c in pair)
    different = [section for section in now if section not in _NOT_THE_RUN and before[section] != now[section]]
    if different:
        raise ConfigError(
            f"{folder} has a finished run with another {', '.join(different)}; give the sweep another name or "
            f"remove that folder"
        )
    return True


def _one_by_one(waiting: Sequence[Cell], folder: Path, train: Train) -> Iterator[tuple[Cell, str | None]]:
    for cell in waiting:
        yield cell, _run_cell(train, _fresh(cell.config), folder / cell.name)


def _as_tasks(waiting: Sequence[Cell], folder: Path, train: Train, parallel: int) -> Iterator[tuple[Cell, str | None]]:
    if not waiting:
        return
    jobs = [(train, _fresh(_in_one_process(cell.config)), (folder / cell.name).resolve()) for cell in waiting]
    for index, error in run_tasks(_run_cell, jobs, ray_options(waiting[0].config.cluster), at_once=parallel):
        yield waiting[index], error


def _run_cell(train: Train, config: RunConfig, folder: Path) -> str | None:
    try:
        train(config, folder)
    except (ValueError, ArithmeticError, OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _fresh(config: RunConfig) -> RunConfig:
    return config.model_copy(update={"output": config.output.model_copy(update={"overwrite": True})})


def _in_one_process(config: RunConfig) -> RunConfig:
    return config.model_copy(update={"cluster": config.cluster.model_copy(update={"kind": "local"})})


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, leaf = key.split(".")
    for section in sections:
        inner = tree.get(section)
        tree[section] = dict(inner) if isinstance(inner, dict) else {}
        tree = tree[section]
    tree[leaf] = value


def _in_a_name(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    return re.sub(r"[^\w.+-]+", "_", str(value)).strip("_") or "_"
