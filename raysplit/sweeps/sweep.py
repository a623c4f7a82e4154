"""Grid of runs: every combination of the values of some settings, each in a folder of its own.

Finished cells are kept, so a sweep that was interrupted, or that got more values, continues where it stopped.
"""

from __future__ import annotations

import copy
import itertools
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysplit.cluster.on_ray.connect import ray_left_as_found, run_tasks
from raysplit.config.errors import ConfigError
from raysplit.config.run import RunConfig, check_config, load_recorded, resolved
from raysplit.config.texts import config_texts
from raysplit.experiment.fingerprint import numbers_depend_on
from raysplit.paths import expanded, is_uri
from raysplit.plain_yaml import NotYaml, Texts, flat, read
from raysplit.runs.folder import finished
from raysplit.training.cluster import ray_options

logger = logging.getLogger(__name__)

SEED = "seed"

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


def local_folder(root: str) -> Path:
    """Return the folder of a sweep. Raises `ConfigError` for a URI, where no run of a sweep can be kept."""
    if is_uri(root):
        raise ConfigError(f"a sweep cannot be at {root}: its runs are kept in a local folder; set output.root to one")
    return Path(expanded(root))


def parse_axis(text: str) -> Axis:
    """Parse ``key=a,b,c``; the values are YAML, so a list or mapping in brackets is one value."""
    key, equals, values = text.partition("=")
    if not equals or not key.strip() or ("." not in key and key.strip() != "seed"):
        raise ConfigError(f"--over {text!r} does not have the form section.key=value,value")
    texts = config_texts()
    for part in key.strip().split("."):
        texts = texts.below(part)
    try:
        parsed = read(f"[{values}]", f"--over {text!r}: the list of values", Texts(each=texts))
    except NotYaml as error:
        raise ConfigError(str(error)) from error
    return Axis(key=key.strip(), values=tuple(parsed))


def with_seeds(axes: Sequence[Axis], num_seeds: int | None) -> list[Axis]:
    """Return the axes with one of the seeds from 0 on. Raises `ConfigError` where there is one of seeds already."""
    if num_seeds is None:
        return list(axes)
    if any(axis.key == SEED for axis in axes):
        raise ConfigError("the seeds are given twice, by --seeds and by --over seed=...; give one of them")
    return [*axes, Axis(key=SEED, values=tuple(range(num_seeds)))]


def cells(tree: Mapping[str, Any], axes: Sequence[Axis], follow: Sequence[str] = ()) -> list[Cell]:
    """Build and check all combinations, with the last axis fastest. Raises `ConfigError` for the first wrong one.

    Args:
        tree: the settings that all runs share.
        axes: the swept settings.
        follow: further settings that take the value of the seed, such as ``data.seed``.
    """
    keys = [axis.key for axis in axes]
    if twice := [key for key in follow if key in keys]:
        raise ConfigError(f"{twice[0]} follows the seed and is swept as well; do one of them")
    if len(set(keys)) < len(keys):
        raise ConfigError(f"a key can be swept only once, got {', '.join(keys)}; put all its values into one --over")
    found = []
    for combination in itertools.product(*(axis.values for axis in axes)):
        values = dict(zip(keys, combination, strict=True))
        changed = copy.deepcopy(dict(tree))
        for key, value in values.items():
            put_setting(changed, key, value)
        for key in follow:
            put_setting(changed, key, changed.get(SEED, 0))
        try:
            found.append(Cell(values=values, config=check_config(changed)))
        except ConfigError as error:
            raise ConfigError(f"with {', '.join(f'{k}={v}' for k, v in values.items())}: {error}") from None
    names = Counter(cell.name for cell in found)
    if shared := [name for name, count in names.items() if count > 1]:
        raise ConfigError(f"two runs would share the folder {shared[0]}; sweep values that differ in letters or digits")
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
    recorded = load_recorded(folder)
    configs = (recorded, _with_findings(config, recorded))
    before, now = (dict(flat(numbers_depend_on(resolved(c).model_dump(mode="json")))) for c in configs)
    different = [key for key in now | before if before.get(key) != now.get(key)]
    if different:
        changed = ", ".join(f"{key} {before.get(key)!r} for {now.get(key)!r}" for key in different)
        raise ConfigError(
            f"{folder} has a finished run with other settings ({changed}); give the sweep another name or remove that "
            f"folder"
        )
    return True


def _with_findings(config: RunConfig, recorded: RunConfig) -> RunConfig:
    """Return a configuration with what a run of it has found out, and wrote down, where it leaves that open."""
    data, model = {}, {}
    if not config.data.digests:
        data = {"digests": recorded.data.digests}
    if config.model.front_end == "auto":
        model = {"front_end": recorded.model.front_end}
    return config.model_copy(
        update={"data": config.data.model_copy(update=data), "model": config.model.model_copy(update=model)}
    )


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


def put_setting(tree: dict[str, Any], key: str, value: Any) -> None:
    """Put a value at a key such as ``training.optimizer.lr``; what was no section there becomes one."""
    *sections, leaf = key.split(".")
    for section in sections:
        inner = tree.get(section)
        tree[section] = dict(inner) if isinstance(inner, dict) else {}
        tree = tree[section]
    tree[leaf] = value


def _in_a_name(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return re.sub(r"[^\w.+-]+", "_", str(value)).strip("_") or "_"
