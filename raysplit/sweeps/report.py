"""Table of a sweep: one line per combination with its seeds together, beside baselines for comparison."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from raysplit.runs.folder import Row, finished, read_metrics
from raysplit.runs.metric import ACCURACY, LOSS, RATES, TASK_METRIC, Metric, primary, to_targets
from raysplit.sweeps.sweep import SEED, Cell

METHOD, LOCAL = "algorithm.name", "local"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean and sample standard deviation of ``count`` values; the deviation of a single value is 0."""

    mean: float
    sd: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Compute the spread of the values; None where there are none."""
        if not values:
            return None
        return cls(mean=fmean(values), sd=stdev(values) if len(values) > 1 else 0.0, count=len(values))


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that differ only in their seed.

    Attributes:
        values: the swept settings and their values, without the seed.
        runs: the metrics of each finished run.
        local: the last value of local training with the same settings, where the sweep has it: of its owners on their
            own test samples, where they have some.
    """

    values: Mapping[str, Any]
    runs: tuple[tuple[Row, ...], ...]
    local: Spread | None = None

    @property
    def accuracy(self) -> Spread | None:
        return self.last("test_accuracy")

    @property
    def metric(self) -> Metric:
        """The primary metric of the runs' task, or the accuracy, or the loss where no run has one."""
        return primary([row for run in self.runs for row in run])

    @property
    def worst(self) -> Spread | None:
        """The value of the worst owner."""
        return self.last(self.metric.worst_column)

    @property
    def by_owner(self) -> Spread | None:
        """The mean over the owners, each on its own test samples."""
        return self.last(f"owner_{self.metric.name}")

    @property
    def majority(self) -> Spread | None:
        """The accuracy of guessing an owner's most frequent label; None beside a loss."""
        return self.last("majority_accuracy") if self.metric.name == "accuracy" else None

    @property
    def tested_on(self) -> str | None:
        """Whose test samples the values are of; None where the runs do not say it, or differ."""
        found = {run[-1].get("tested_on") for run in self.runs}
        return found.pop() if len(found) == 1 else None

    def last(self, key: str) -> Spread | None:
        """Return the spread of a metric after the last round, over the runs that have it."""
        return Spread.of([run[-1][key] for run in self.runs if key in run[-1]])

    def to_target(self, measure: str, target: float) -> Spread | None:
        """Return the spread of ``steps_to_target`` or ``bytes_to_target``, over the runs that reached the target."""
        found = [to_targets(run, (target,))[measure][f"{target:g}"] for run in self.runs]
        return Spread.of([value for value in found if value is not None])


CONTROLS: Mapping[str, Callable[[Group], Spread | None]] = {
    "naive": lambda group: group.last("primary_naive"),
    "majority label": lambda group: group.majority,
    "local only": lambda group: group.local,
}


def read_groups(grid: Sequence[Cell], folder: Path) -> list[Group]:
    """Read the finished runs of a sweep and group them in the order of the grid; groups may be empty."""
    runs: dict[str, tuple[Mapping[str, Any], list[tuple[Row, ...]]]] = {}
    for cell in grid:
        values = {key: value for key, value in cell.values.items() if key != SEED}
        _, found = runs.setdefault(repr(values), (values, []))
        if finished(folder / cell.name):
            found.append(tuple(read_metrics(folder / cell.name)))
    groups = [Group(values=values, runs=tuple(found)) for values, found in runs.values()]
    alone = {
        _circumstances(group): group.last(group.metric.column) for group in groups if group.values.get(METHOD) == LOCAL
    }
    return [Group(values=g.values, runs=g.runs, local=alone.get(_circumstances(g))) for g in groups]


def common_metric(groups: Sequence[Group]) -> Metric:
    """Return the metric that all runs have: the primary one where it is the same, else the loss."""
    metrics = {group.metric for group in groups if group.runs}
    return metrics.pop() if len(metrics) == 1 else LOSS if metrics else ACCURACY


def task_columns(groups: Sequence[Group], metric: Metric) -> dict[str, str]:
    """Return the columns of single tasks by task: of accuracies, or of losses; empty where there is a single one.

    Of tasks of different kinds, the primary figures with their names.
    """
    kind = "accuracy" if metric.is_rate else "loss"
    prefix = f"test_{kind}_"
    rows = [run[-1] for group in groups for run in group.runs]
    told = {key.removeprefix(TASK_METRIC): row[key] for row in rows for key in row if key.startswith(TASK_METRIC)}
    if told:
        return {f"{task} {figure}": f"test_{figure}_{task}" for task, figure in told.items()}
    names = dict.fromkeys(name for row in rows for name in row if name.startswith(prefix))
    found = {name.removeprefix(prefix): name for name in names if not name.endswith("_uncoded")}
    return found if len(found) > 1 else {}


def _circumstances(group: Group) -> str:
    return repr({key: value for key, value in group.values.items() if not key.startswith("algorithm.")})


def table(groups: Sequence[Group], target: float | None = None) -> tuple[list[str], list[list[str]]]:
    """Return column names and lines of text: swept values, results, baselines, and the cost of the target.

    The result is the primary metric, or the test loss where runs have different ones; behind it are those of single
    tasks. Where runs tell whose samples it
    is of, there is a column for that, and where a model of all owners is tested on everybody's, one for the mean over
    the owners.
    """
    keys = list(groups[0].values)
    metric = common_metric(groups)
    text = percent if metric.is_rate else number
    read: dict[str, Callable[[Group], str]] = {metric.name: lambda group: text(group.last(metric.column))}
    for task, column in task_columns(groups, metric).items():
        shown = percent if metric.is_rate or task.rpartition(" ")[2] in RATES else number
        read[task] = lambda group, column=column, shown=shown: shown(group.last(column))  # type: ignore[misc]
    if any(group.tested_on == "own" or group.by_owner for group in groups):
        read["tested on"] = lambda group: group.tested_on or "–"
    if any(group.tested_on == "all" and group.by_owner for group in groups):
        read["by owner"] = lambda group: text(group.by_owner)
    read["worst owner"] = lambda group: text(group.worst)
    controls = {name: control for name, control in CONTROLS.items() if any(control(group) for group in groups)}
    read |= {name: lambda group, control=control: text(control(group)) for name, control in controls.items()}  # type: ignore[misc]
    columns = [*key_titles(keys), *read]
    if target is not None:
        wanted = f"{target:.0%}" if metric.is_rate else f"{target:g}"
        columns += [f"steps to {wanted}", f"MiB to {wanted}"]
    lines = []
    for group in groups:
        line = [value_text(group.values[key]) for key in keys] + [cell(group) for cell in read.values()]
        if target is not None:
            line += [_reached(group, measure, target) for measure in ("steps_to_target", "bytes_to_target")]
        lines.append(line)
    return columns, lines


def key_titles(keys: Sequence[str]) -> list[str]:
    """Return keys without their sections (``algorithm`` for ``algorithm.name``), unless two would be equal."""
    short = [key.removesuffix(".name").rpartition(".")[2] for key in keys]
    return [name if short.count(name) == 1 else key for name, key in zip(short, keys, strict=True)]


def as_data(groups: Sequence[Group], target: float | None = None) -> list[dict[str, Any]]:
    """Return the table as plain data, for programs; accuracies are fractions. A value that there is not is None."""
    found = []
    by_task = task_columns(groups, common_metric(groups))
    for group in groups:
        entry: dict[str, Any] = {"values": dict(group.values), "runs": len(group.runs)}
        if by_task:
            spreads = {task: group.last(column) for task, column in by_task.items()}
            entry["tasks"] = {task: {"mean": s.mean, "sd": s.sd} for task, s in spreads.items() if s is not None}
        entry["tested_on"] = group.tested_on
        for name, spread in (
            ("accuracy", group.accuracy),
            ("loss", group.last("test_loss")),
            ("primary", group.last("primary")),
            ("primary_naive", group.last("primary_naive")),
            (f"owner_{group.metric.name}", group.by_owner),
            ("min_accuracy", group.last("min_accuracy")),
            ("max_loss", group.last("max_loss")),
            ("majority_accuracy", group.last("majority_accuracy")),
            (f"local_{group.metric.name}", group.local),
        ):
            entry[name] = {"mean": spread.mean, "sd": spread.sd} if spread else None
        if target is not None:
            entry["target"] = target
            for measure in ("steps_to_target", "bytes_to_target"):
                spread = group.to_target(measure, target)
                entry[measure] = {"mean": spread.mean, "sd": spread.sd, "reached": spread.count} if spread else None
        found.append(entry)
    return found


def percent(spread: Spread | None) -> str:
    """Format a spread in percent as ``95.7 ± 0.2``; a single run has no deviation."""
    if spread is None:
        return "–"
    return f"{100 * spread.mean:.1f}" + (f" ± {100 * spread.sd:.1f}" if spread.count > 1 else "")


def number(spread: Spread | None) -> str:
    """Format a spread as ``0.123 ± 0.004``; a single run has no deviation."""
    if spread is None:
        return "–"
    return f"{spread.mean:.4g}" + (f" ± {spread.sd:.2g}" if spread.count > 1 else "")


def value_text(value: Any) -> str:
    """Format a swept value as the user wrote it."""
    return value if isinstance(value, str) else json.dumps(value)


def _reached(group: Group, measure: str, target: float) -> str:
    spread = group.to_target(measure, target)
    if spread is None:
        return "never" if group.runs else "–"
    some = f" ({spread.count} of {len(group.runs)})" if spread.count < len(group.runs) else ""
    return (f"{spread.mean:.0f}" if measure == "steps_to_target" else f"{spread.mean / 2**20:.1f}") + some
