"""A grid of runs from one configuration: every combination of the values of some keys, each in a folder of its own.

A cell that has finished is kept, so a sweep that was interrupted, or that got more values, goes on where it stopped.
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
from raysplit.config.run import RunConfig, check_config, dump_config, load_config
from raysplit.runs.folder import finished
from raysplit.training.cluster import ray_options

logger = logging.getLogger(__name__)

_NOT_THE_RUN = ("cluster", "output", "reliability")
"""Sections that do not change a run's numbers: the same cell may be finished elsewhere."""


Train = Callable[[RunConfig, Path], object]
"""Trains a configuration into a folder; it can be pickled by its name."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A key such as ``partition.alpha`` and the values it takes."""

    key: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ConfigError(f"{self.key} has no values to go over; write --over {self.key}=first,second")
        if len({repr(value) for value in self.values}) < len(self.values):
            raise ConfigError(f"{self.key} goes over the same value twice: {list(self.values)}")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a sweep: its values by key, and the whole configuration with them."""

    values: Mapping[str, Any]
    config: RunConfig

    @property
    def name(self) -> str:
        """The name of its folder, such as ``partition.alpha=0.1,algorithm.name=mtsl``."""
        return ",".join(f"{key}={_in_a_name(value)}" for key, value in self.values.items())


def parse_axis(text: str) -> Axis:
    """``key=a,b,c``; the values are YAML, so lists and mappings in brackets count as one value each."""
    key, equals, values = text.partition("=")
    if not equals or not key.strip() or ("." not in key and key.strip() != "seed"):
        raise ConfigError(f"--over {text!r} is not of the form section.key=value,value")
    try:
        parsed = yaml.safe_load(f"[{values}]")
    except yaml.YAMLError as error:
        raise ConfigError(f"--over {text!r}: the values are not valid YAML: {error}") from error
    return Axis(key=key.strip(), values=tuple(parsed))


def cells(tree: Mapping[str, Any], axes: Sequence[Axis]) -> list[Cell]:
    """All combinations, the last axis fastest, each checked. Raises `ConfigError` for the first that is wrong."""
    keys = [axis.key for axis in axes]
    if len(set(keys)) < len(keys):
        raise ConfigError(f"a key can be swept once: {', '.join(keys)}; put all its values into one --over")
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
    """Run the cells that have not finished yet, each into ``folder``/<its name>.

    Args:
        train: trains a configuration into a folder.
        parallel: one after the other on the configured cluster, or so many at a time, each in one process as a task of
            that Ray cluster (the numbers are the same).
        done: is told each cell and whether it was kept from before.

    Returns:
        What went wrong, by the names of the cells that failed; all others have finished.

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
    """Whether a folder holds this very run, to its end. Raises `ConfigError` if it holds another one."""
    if not finished(folder):
        return False
    before, now = (yaml.safe_load(dump_config(c)) for c in (load_config(folder / "config.yaml"), config))
    different = [section for section in now if section not in _NOT_THE_RUN and before[section] != now[section]]
    if different:
        raise ConfigError(
            f"{folder} holds a finished run with another {', '.join(different)}; give the sweep another name or "
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
    """Run into the folder; what went wrong, if anything did."""
    try:
        train(config, folder)
    except (ValueError, ArithmeticError, OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _fresh(config: RunConfig) -> RunConfig:
    """An unfinished cell begins anew."""
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
