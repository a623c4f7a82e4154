"""A fair comparison: every method of a sweep with its own best settings and round, chosen on validation samples.

For each seed by itself, a method takes the run and the round of the lowest validation loss; its figures on the test
samples are those of that round. Differences are paired by seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysplit.algorithms import resolve_algorithm
from raysplit.config.errors import ConfigError
from raysplit.runs.folder import Row, finished, read_metrics
from raysplit.runs.metric import Metric, primary
from raysplit.sweeps.paired import VALIDATION_LOSS, Interval, interval, lowest, paired
from raysplit.sweeps.report import Spread, key_titles, number, percent, value_text
from raysplit.sweeps.sweep import SEED, Axis, Cell

BY_VALIDATION = "validation_loss"
"""What a choice follows; the only one, because choosing on test samples flatters whoever has more to choose from."""
CHOSEN_SECTION = "training."


@dataclass(frozen=True, kw_only=True)
class ChosenRun:
    """What validation chose for a method and a seed: the settings, the round, and its metrics."""

    settings: Mapping[str, Any]
    round: int
    row: Row


@dataclass(frozen=True, kw_only=True)
class Method:
    """The chosen runs of a method, by seed.

    Attributes:
        values: the swept settings that were not chosen, without the seed.
        runs: the chosen run of each seed.
    """

    values: Mapping[str, Any]
    runs: Mapping[int, ChosenRun]

    def figures(self, column: str) -> dict[int, float]:
        """Return a figure by seed, of the seeds that have it."""
        return {seed: float(run.row[column]) for seed, run in self.runs.items() if run.row.get(column) is not None}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A method against the first one, under the same other settings: better is positive."""

    values: Mapping[str, Any]
    against: Any
    figure: str
    found: Interval
    is_rate: bool

    def __str__(self) -> str:
        factor, unit = (100.0, " points") if self.is_rate else (1.0, "")
        found = self.found
        half = None if found.half is None else factor * found.half
        return f"{Interval(mean=factor * found.mean, half=half, count=found.count)}{unit}"


def checked_choice(choose: str, grid: Sequence[Cell], axes: Sequence[Axis]) -> tuple[str, ...]:
    """Return the keys of the settings that are chosen: those of ``training``.

    Raises:
        ConfigError: the choice follows something else than validation, or a run has no validation samples.
    """
    if choose != BY_VALIDATION:
        raise ConfigError(f"--choose is {choose!r}; a choice follows {BY_VALIDATION} alone, never the test samples")
    for cell in grid:
        own = resolve_algorithm(cell.config.algorithm.name).reports_validation
        if not own and not cell.config.data.validation:
            raise ConfigError(
                f"{cell.name} has no validation samples to choose on; set data.validation to a share of every owner's "
                f"training samples, such as 0.1"
            )
    return tuple(axis.key for axis in axes if axis.key.startswith(CHOSEN_SECTION))


def read_methods(grid: Sequence[Cell], folder: Path, among: Sequence[str]) -> list[Method]:
    """Read the finished runs of a sweep and choose for every method and seed; methods without a run are left out."""
    found: dict[str, tuple[dict[str, Any], dict[int, dict[str, tuple[Cell, list[Row]]]]]] = {}
    for cell in grid:
        values = {k: v for k, v in cell.values.items() if k != SEED and k not in among}
        _, by_seed = found.setdefault(repr(values), (values, {}))
        if finished(folder / cell.name):
            by_seed.setdefault(cell.config.seed, {})[cell.name] = (cell, read_metrics(folder / cell.name))
    methods = []
    for values, by_seed in found.values():
        runs = {seed: run for seed, of_seed in by_seed.items() if (run := _chosen(of_seed, among)) is not None}
        if runs:
            methods.append(Method(values=values, runs=runs))
    return methods


def _chosen(runs: Mapping[str, tuple[Cell, Sequence[Row]]], among: Sequence[str]) -> ChosenRun | None:
    tested = {name: [r for r in rows if "test_loss" in r] for name, (_, rows) in runs.items()}
    best = lowest({name: [row.get(VALIDATION_LOSS) for row in rows] for name, rows in tested.items()})
    if best is None:
        return None
    name, index = best
    cell, row = runs[name][0], tested[name][index]
    return ChosenRun(settings={k: cell.values[k] for k in among}, round=row["round"], row=row)


def figures_of(methods: Sequence[Method]) -> list[Metric]:
    """Return the figures that are compared: that of the task, and those of single tasks where there are several.

    Where some methods are tested on everybody's samples and others on each owner's own, the figure is the mean over the
    owners, each on its own samples.
    """
    rows = [run.row for method in methods for run in method.runs.values()]
    metric = primary(rows)
    if len({row.get("tested_on") for row in rows}) > 1:
        return [Metric(name=metric.name, better=metric.better)]
    prefix = f"test_{'accuracy' if metric.is_rate else 'loss'}_"
    tasks = [{name for name in row if name.startswith(prefix) and not name.endswith("_uncoded")} for row in rows]
    order = dict.fromkeys(name for row in rows for name in row if name.startswith(prefix))
    by_task = [name for name in order if any(name in found for found in tasks)]
    same = all(found == tasks[0] for found in tasks)  # the mean over other tasks is another figure
    found = [Metric(name=name.removeprefix("test_"), better=metric.better) for name in by_task]
    return [metric, *found] if same else found


def _by_seed(method: Method, metric: Metric, methods: Sequence[Method]) -> dict[int, float]:
    rows = [run.row for m in methods for run in m.runs.values()]
    mixed = len({row.get("tested_on") for row in rows}) > 1
    is_of_all = all(run.row.get("tested_on") == "all" for run in method.runs.values())
    return method.figures(f"owner_{metric.name}" if mixed and is_of_all else f"test_{metric.name}")


def differences(methods: Sequence[Method], key: str) -> list[Difference]:
    """Compare along a setting: every value with the first one that has the figure, with all else the same.

    Args:
        methods: the methods.
        key: the setting that tells methods apart, such as ``algorithm.name``.
    """
    found = []
    for metric in figures_of(methods) if methods else []:
        for method in methods:
            rest = _others(method, key)
            have = (m for m in methods if _others(m, key) == rest and _by_seed(m, metric, methods))
            first = next(have, method)
            if first is method:
                continue
            values = paired(_by_seed(method, metric, methods), _by_seed(first, metric, methods)).values()
            signed = [value if metric.better == "higher" else -value for value in values]
            if (measured := interval(signed)) is not None:
                found.append(
                    Difference(
                        values=method.values,
                        against=first.values[key],
                        figure=metric.name,
                        found=measured,
                        is_rate=_is_rate(metric),
                    )
                )
    return found


def _others(method: Method, key: str) -> dict[str, Any]:
    return {name: value for name, value in method.values.items() if name != key}


def _is_rate(metric: Metric) -> bool:
    return metric.is_rate or metric.name.startswith("accuracy")


def method_table(methods: Sequence[Method]) -> tuple[list[str], list[list[str]]]:
    """Return column names and lines of text: the method, its figures, and the settings and rounds that were chosen."""
    metrics = figures_of(methods)
    keys, among = list(methods[0].values), list(next(iter(methods[0].runs.values())).settings)
    columns = [*key_titles(keys), *(m.name for m in metrics), *key_titles(among), "round", "seeds"]
    lines = []
    for method in methods:
        line = [value_text(method.values[key]) for key in keys]
        for metric in metrics:
            spread = Spread.of(list(_by_seed(method, metric, methods).values()))
            line.append(percent(spread) if _is_rate(metric) else number(spread))
        line += [_counts([value_text(run.settings[key]) for run in method.runs.values()]) for key in among]
        line.append(_counts([str(run.round) for run in method.runs.values()]))
        lines.append([*line, str(len(method.runs))])
    return columns, lines


def difference_table(found: Sequence[Difference]) -> tuple[list[str], list[list[str]]]:
    """Return column names and lines of text of differences."""
    columns = [*key_titles(list(found[0].values)), "against", "figure", "difference", "seeds"]
    return columns, [
        [*map(value_text, d.values.values()), value_text(d.against), d.figure, str(d), str(d.found.count)]
        for d in found
    ]


def choice_data(methods: Sequence[Method], found: Sequence[Difference]) -> dict[str, Any]:
    """Return what was chosen, and the differences, as plain data."""
    return {
        "methods": [
            {
                "values": dict(m.values),
                "seeds": {
                    str(seed): {"settings": dict(run.settings), "round": run.round, "metrics": dict(run.row)}
                    for seed, run in m.runs.items()
                },
            }
            for m in methods
        ],
        "differences": [
            {
                "values": dict(d.values),
                "against": d.against,
                "figure": d.figure,
                "mean": d.found.mean,
                "half": d.found.half,
                "seeds": d.found.count,
            }
            for d in found
        ],
    }


def _counts(values: Sequence[str]) -> str:
    """Format values with the number of seeds that chose each, such as ``0.1 (3), 0.03 (2)``."""
    counted = Counter(values).most_common()
    return counted[0][0] if len(counted) == 1 else ", ".join(f"{value} ({count})" for value, count in counted)
