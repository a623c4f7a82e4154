"""Markdown page about runs, and the cells that its tables share with those of the terminal.

The page has results, differing settings, metrics by round, traffic and environment. Names, settings and reasons may be
those of others. They are shown letter by letter: nothing in them is a link, a picture, HTML or another cell of a table.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from raysplit.cluster.contract import LinkTraffic
from raysplit.cluster.links.kinds import KINDS
from raysplit.registry import clipped, one_line
from raysplit.runs.metric import ACCURACY, LOSS, RATES, Metric, TaskFigure, primary
from raysplit.runs.records.damaged import Damaged
from raysplit.runs.records.leakage import leak_sentences
from raysplit.runs.records.read import Row, read_environment, read_metrics, read_statements, read_traffic
from raysplit.runs.report import RunReport, common_figure, common_metric, differing_settings

MAX_ROUNDS = 20
"""Largest number of rounds in a table; of more rounds, evenly spread ones are shown, with the last."""

OWNERS_EXPLAINED = (
    "Tested on `all`: the last value is of the whole test set. On `own`: it is the mean over the owners, each on "
    "its own test samples. Compare a model of all owners with owners' own models by owner."
)
_MIB = 2**20
_MARKS = re.compile(r"[\\`*\[\]#~!$]|(?<!\w)_|_(?!\w)")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_PLAIN_CODE = re.compile(r"[\w .,:;/+=(){}%@'\"-]+")
_MOST_VALUE = 300
_SHOWN = ("model.name", "data.name", "training.optimizer.name", "training.optimizer.lr", "training.cohort_size", "seed")


def page(
    runs: Sequence[RunReport],
    picture: str | None,
    target: float | None = None,
    left_out: Mapping[Path, str] = MappingProxyType({}),
) -> str:
    """Return the page.

    Args:
        runs: the reports.
        picture: the path of the figure, relative to the page; None leaves it out.
        target: a value of the primary metric for which the page shows the number of rounds; None leaves it out.
        left_out: why further runs cannot be read, by folder.
    """
    parts = ["# Runs", markdown_table(*_results(runs, target))]
    parts += [f"Left out: {as_text(reason)}." for reason in left_out.values()]
    parts += [f"![test {common_figure(runs)} over rounds, bytes and seconds]({quote(picture)})"] if picture else []
    owners = [[as_text(run.label), *map(as_text, cells)] for run in runs if (cells := owner_cells(run))]
    if owners:
        parts += ["## Owner by owner", markdown_table(["run", *OWNER_HEAD], owners), OWNERS_EXPLAINED]
    differing = differing_settings(runs)
    if differing:
        parts += [
            "## What else differs",
            markdown_table(["setting", *[as_text(run.label) for run in runs]], _settings_rows(differing)),
        ]
    for run in runs:
        parts += _section(run)
    return "\n\n".join(parts) + "\n"


def _results(runs: Sequence[RunReport], target: float | None) -> tuple[list[str], list[list[str]]]:
    tested = result_columns(runs)
    head = ["run", "partition", "rounds", *map(as_text, tested), "MiB sent", "s of training", "samples/s"]
    if target is not None:
        head.append(f"rounds to {target_text(runs, target)}")
    rows = []
    for index, run in enumerate(runs):
        row = [as_text(run.label), as_text(run.partition), f"{run.rounds} of {run.rounds_planned}"]
        row += [cells[index] for cells in tested.values()]
        row += [f"{run.num_bytes / _MIB:,.1f}", f"{run.seconds:,.1f}", f"{run.samples_per_s:,.0f}"]
        if target is not None:
            point = run.reached(target)
            row.append(str(point.round) if point else "not reached")
        rows.append(row)
    return head, rows


def _settings_rows(differing: Mapping[str, Sequence[Any]]) -> list[list[str]]:
    return [[as_code(key), *map(as_code, values)] for key, values in differing.items()]


def _section(run: RunReport) -> list[str]:
    rows = read_metrics(run.folder)
    settings = [as_code(f"{key}: {run.settings[key]}") for key in _SHOWN if key in run.settings]
    parts = [
        f"## {as_text(run.label)}",
        f"{as_text(run.stopped)}; {', '.join(settings)}",
        markdown_table(*_course(rows)),
    ]
    return [
        *parts,
        *_links(run.folder, rows),
        *_statements(run.folder),
        *_leakage(run.folder),
        *_environment(run.folder),
    ]


def _leakage(folder: Path) -> list[str]:
    """Return a paragraph on what `raysplit leak` has measured; none where nothing was."""
    try:
        sentences = leak_sentences(folder)
    except Damaged as damaged:
        return [f"What it leaks cannot be read: {as_text(damaged)}."]
    return [f"What it leaks: {' '.join(map(as_text, sentences))}"] if sentences else []


def _course(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    step = max(1, -(-len(rows) // MAX_ROUNDS))
    shown = list(rows[::-1][::step])[::-1]
    elastic = any("num_members" in row for row in rows)
    names = dict.fromkeys((primary(rows).name, "accuracy", "loss"))
    measures = [name for name in names if any(f"test_{name}" in row for row in rows)]
    tested = ["test loss" if name == "loss" else name for name in measures]
    head = ["round", "loss", *tested, "owners", "s", "MiB sent"] + (["members", "came", "left"] if elastic else [])
    table = []
    for row in shown:
        cells = [str(row["round"]), f"{row['train_loss']:.4f}" if "train_loss" in row else "not told"]
        cells += [(percent if name in RATES else number)(row.get(f"test_{name}")) for name in measures]
        cells += [str(row["num_owners"]), f"{row['seconds']:.2f}", f"{row['bytes'] / _MIB:,.2f}"]
        if elastic:
            cells += [str(row.get("num_members", "")), *(_some(row.get(key) or []) for key in ("came", "left"))]
        table.append(cells)
    return head, table


def _some(names: Sequence[str]) -> str:
    return as_text(", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more")


def _links(folder: Path, metrics: Sequence[Row]) -> list[str]:
    try:
        traffic = read_traffic(folder)
    except Damaged as damaged:
        return [f"{as_text(damaged)}."]
    sizes: Counter[tuple[str, str]] = Counter()
    messages: Counter[tuple[str, str]] = Counter()
    for link in traffic:
        key = (link.source.partition("-")[0], link.destination.partition("-")[0])
        sizes[key] += link.num_bytes
        messages[key] += link.num_messages
    rows = [[*map(as_text, key), f"{sizes[key] / _MIB:,.2f}", f"{messages[key]:,}"] for key in sorted(sizes)]
    if not rows:
        return []
    table = markdown_table(["from", "to", "MiB", "messages"], rows)
    return [
        "Tensor bytes by kind of link:",
        table,
        *_values(traffic, sum(row.get("num_samples", 0) for row in metrics)),
    ]


def _values(traffic: Sequence[LinkTraffic], num_samples: int) -> list[str]:
    """Return what each kind of value takes, in all and for each sample that was trained on."""
    sent: Counter[str] = Counter()
    raw: Counter[str] = Counter()
    for kind, num_bytes, raw_bytes in (each for link in traffic for each in link.kinds):
        sent[kind] += num_bytes
        raw[kind] += raw_bytes
    total = sum(sent.values())
    if not total or not num_samples:
        return []
    rows = [
        [
            *[kind, f"{sent[kind] / _MIB:,.2f}", f"{sent[kind] / total:.1%}", f"{sent[kind] / num_samples:,.1f}"],
            *[f"{raw[kind] / num_samples:,.1f}", f"{raw[kind] / sent[kind]:.2f}"],
        ]
        for kind in KINDS
        if sent[kind]
    ]
    head = ["value", "MiB", "share", "bytes a sample", "without codecs", "times fewer"]
    return ["Tensor bytes by kind of value (a batch takes those of its samples):", markdown_table(head, rows)]


def _statements(folder: Path) -> list[str]:
    """Return what owners have said of their rows, which has left them for the encoder of a table."""
    try:
        said = read_statements(folder)
    except Damaged as damaged:
        return [f"{as_text(damaged)}."]
    if not said:
        return []
    rows = [
        [
            as_text(each["owner"]),
            as_text(", ".join(each["numeric"]) or "-"),
            as_text(", ".join(f"{column} ({len(names)})" for column, names in each["categories"].items()) or "-"),
            f"{each['bytes']:,}",
        ]
        for each in said
    ]
    head = ["owner", "count, mean and squares of", "names of categories of", "bytes"]
    return ["Statistics that owners have sent for the encoder, before round 1:", markdown_table(head, rows)]


def _environment(folder: Path) -> list[str]:
    try:
        found = read_environment(folder)
    except Damaged as damaged:
        return [f"{as_text(damaged)}."]
    if not found:
        return []
    packages = ", ".join(f"{name} {version}" for name, version in found.get("packages", {}).items())
    python, platform, cpus = (found.get(key, "?") for key in ("python", "platform", "cpus"))
    return [as_text(f"Python {python} on {platform}, {cpus} CPUs; {packages}.")]


def as_text(value: object) -> str:
    """Return text in one line of a Markdown page that shows it letter by letter."""
    line = clipped(one_line(value), _MOST_VALUE)
    return re.sub("[&<>]", lambda found: _ENTITIES[found[0]], _MARKS.sub(lambda found: f"\\{found[0]}", line))


def as_code(value: object) -> str:
    """Return a value as code of a Markdown page, or as text where code would end in the middle of it."""
    return f"`{value}`" if _PLAIN_CODE.fullmatch(text := str(value)) and len(text) < _MOST_VALUE else as_text(value)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table without a line break at its end; bars in cells are escaped."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *cells])


def percent(value: float | None) -> str:
    """Format an accuracy; empty where there is none."""
    return "" if value is None else f"{value:.1%}"


def number(value: float | None) -> str:
    """Format a loss; empty where there is none."""
    return "" if value is None else f"{value:.4g}"


def formatted(metric: Metric, value: float | None) -> str:
    """Format a value of a metric; empty where there is none."""
    return percent(value) if metric.is_rate else number(value)


def target_text(runs: Sequence[RunReport], target: float) -> str:
    """Format a target of runs, as a percentage where one of them has accuracies."""
    return percent(target) if any(run.metric.is_rate for run in runs) else number(target)


def result_columns(runs: Sequence[RunReport]) -> dict[str, list[str]]:
    """Return the cells of the columns of best and last results, which depend on what the runs have.

    Beside a task's primary metric stands its value for a model that ignores its inputs; several tasks have a column
    each.
    """
    metric, columns = common_metric(runs), {}
    if metric == ACCURACY or (metric == LOSS and any(run.last_accuracy is not None for run in runs)):
        columns["best"] = [percent(run.best_accuracy) for run in runs]
        columns["last"] = [percent(run.last_accuracy) for run in runs]
    if metric == LOSS:
        columns["best loss"] = [number(run.best_loss) for run in runs]
        columns["last loss"] = [number(run.last_loss) for run in runs]
    elif metric != ACCURACY:
        columns[f"best {metric.name}"] = [formatted(metric, run.best) for run in runs]
        columns["last"] = [formatted(metric, run.last) for run in runs]
    if any(run.naive is not None for run in runs):
        columns["naive"] = [formatted(run.metric, run.naive) for run in runs]
    of_tasks = [{f"{one_line(each.task)} {each.metric}": _task_cell(each) for each in run.tasks} for run in runs]
    names = dict.fromkeys(name for own in of_tasks for name in own)
    return columns | {name: [own.get(name, "") for own in of_tasks] for name in names}


def _task_cell(figure: TaskFigure) -> str:
    show = percent if figure.metric in RATES else number
    return show(figure.value) + (f" (naive {show(figure.naive)})" if figure.naive is not None else "")


def owner_cells(run: RunReport) -> list[str] | None:
    """Return the cells of `OWNER_HEAD` about a run; None where it says nothing about single owners."""
    if run.tested_on is None and not run.by_owner:
        return None
    mean, worst, spread = run.metric.owner_columns
    values = [run.last, *(run.by_owner.get(key) for key in (mean, worst, spread, "majority_accuracy"))]
    return [run.tested_on or "", *(formatted(run.metric, value) for value in values)]


OWNER_HEAD = ("tested on", "last", "by owner", "worst owner", "spread", "majority label")
"""Columns about a run's last evaluation: whose samples it is of, its value, and that of the owners on their own."""
