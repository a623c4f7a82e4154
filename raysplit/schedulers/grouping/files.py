"""Matrices of task pairs in files: CSV as input, and the Parquet table that a run writes.

CSV: the header names the tasks, each further line is a row; a first column may repeat the names. Affinities have the
source in the row and the recipient in the column; their diagonal is not used and may be empty. Parquet: columns
`round`, `source`, `recipient`, `value`, one row for each pair and round; a value that nobody measured is null.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from math import isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from raysplit.registry import few, shown
from raysplit.schedulers.grouping.known import Measured, affinities_of
from raysplit.schedulers.grouping.scores import Affinity, PairLosses, TaskMatrix

if TYPE_CHECKING:
    import pyarrow as pa

M = TypeVar("M", bound=TaskMatrix)

HISTORY_FILE = "affinities.parquet"


def read_affinity(path: Path) -> Affinity:
    """Read affinities from CSV. Raises ValueError if the table is not a square of finite numbers."""
    tasks, cells = _read_square(path)
    for number, row in enumerate(cells):
        row[number] = row[number] or "0"
    return _named(path, Affinity, tasks, cells)


def read_pair_losses(path: Path) -> PairLosses:
    """Read losses of tasks (rows) with partners (columns, alone on the diagonal). Raises as `read_affinity`."""
    tasks, cells = _read_square(path)
    return _named(path, PairLosses, tasks, cells)


def _read_square(path: Path) -> tuple[tuple[str, ...], list[list[str]]]:
    """Read the task names and the cells, with rows in the order of the names."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as CSV: {error}; write the table again, in UTF-8") from error
    lines = [line for line in lines if any(line)]
    if len(lines) < 2:
        raise ValueError(
            f"{path} has {len(lines)} lines; it needs a header with the names of the tasks, and a row for each task"
        )
    header, rows = lines[0], lines[1:]
    named_rows = all(row[0] and not _is_number(row[0]) for row in rows) or not header[0]
    longer_rows = all(len(row) == len(header) + 1 for row in rows)
    if longer_rows:
        header = ["", *header]
    named_rows = named_rows or longer_rows or [row[0] for row in rows] == header[1:]
    tasks = tuple(header[1:] if named_rows else header)
    if len(rows) != len(tasks) or any(len(row) != len(header) for row in rows):
        widths = sorted({len(row) - named_rows for row in rows})
        raise ValueError(
            f"{path} is not square: its header names {len(tasks)} tasks ({few(tasks)}), but it has {len(rows)} "
            f"rows of {few(widths)} numbers; give one row and one column per task"
        )
    if len(set(tasks)) != len(tasks) or not all(tasks):
        raise ValueError(f"{path} names the tasks {few(map(shown, tasks))}; they must be distinct names, none empty")
    if named_rows:
        by_name = {row[0]: row[1:] for row in rows}
        if set(by_name) != set(tasks):
            raise ValueError(
                f"{path}: rows are named {few(row[0] for row in rows)}, the header says {few(tasks)}; "
                "both must name the same tasks"
            )
        rows = [by_name[task] for task in tasks]
    return tasks, rows


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(path: Path, tasks: tuple[str, ...], cells: list[list[str]]) -> tuple[tuple[float, ...], ...]:
    for task, row in zip(tasks, cells, strict=True):
        for other, cell in zip(tasks, row, strict=True):
            if not _is_number(cell):
                raise ValueError(
                    f"{path}: row {shown(task)}, column {shown(other)} holds {shown(cell)}, which is not a number"
                )
    return tuple(tuple(float(cell) for cell in row) for row in cells)


def _named(path: Path, kind: type[M], tasks: tuple[str, ...], cells: list[list[str]]) -> M:
    values = _numbers(path, tasks, cells)
    try:
        return kind(tasks=tasks, values=values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def history_table(history: Sequence[Measured], *, first_round: int = 0) -> pa.Table:
    """Build the table of the mean affinities of rounds that follow one another."""
    lines = [
        {"round": number, "source": source, "recipient": recipient, "value": None if isnan(value) else value}
        for number, affinity in enumerate(history, start=first_round)
        for source, row in zip(affinity.tasks, affinity.values, strict=True)
        for recipient, value in zip(affinity.tasks, row, strict=True)
    ]
    import pyarrow as pa  # places load this module, and none of them needs Arrow

    schema = pa.schema(
        [("round", pa.int64()), ("source", pa.string()), ("recipient", pa.string()), ("value", pa.float64())]
    )
    return pa.Table.from_pylist(lines, schema=schema)


def read_history(folder: Path) -> tuple[Measured, ...]:
    """Read the mean affinities of a run, in the order of rounds, with tasks in the order of their first appearance.

    Raises ValueError if the folder has no such table, or a round lacks a pair or has one twice.
    """
    path = folder / HISTORY_FILE
    if not path.exists():
        raise ValueError(f"{folder} holds no {HISTORY_FILE}; only runs that measure affinities, such as mas, write one")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        lines = pq.read_table(path, page_checksum_verification=True).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path} is damaged ({error}); measure the affinities again") from error
    tasks = tuple(dict.fromkeys(line["source"] for line in lines))
    rounds: dict[int, dict[tuple[str, str], float]] = {}
    for line in lines:
        if line["value"] is not None and isnan(line["value"]):
            raise ValueError(
                f"{path}: the affinity of {shown(line['source'])} for {shown(line['recipient'])} in round "
                f"{line['round']} is NaN; it must be finite, or null where nobody measured it"
            )
        value = nan if line["value"] is None else line["value"]
        rounds.setdefault(line["round"], {})[line["source"], line["recipient"]] = value
    wanted = {(source, recipient) for source in tasks for recipient in tasks}
    if (
        not rounds
        or any(set(values) != wanted for values in rounds.values())
        or len(lines) != len(rounds) * len(wanted)
    ):
        raise ValueError(
            f"{path} must hold each pair of its {len(tasks)} tasks once in each of its {len(rounds)} rounds"
        )
    return tuple(
        affinities_of(tasks, [[values[source, other] for other in tasks] for source in tasks])
        for _, values in sorted(rounds.items())
    )
