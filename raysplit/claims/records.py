"""Records of finished runs: one line of JSON each, small enough to be kept beside the code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raysplit.disk import append_line
from raysplit.runs.folder import Row

DIGITS = 6
"""Significant digits of a kept number."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is kept of a finished run.

    Attributes:
        values: the arm, the settings and the seed of the run.
        digest: of all its settings.
        columns: the metrics by column, one value for each round.
        cpu_s: processor seconds that it took.
        versions: of raysplit and torch.
        failed: why it ended early, such as a loss that is not finite; None for a run that was finished.
    """

    values: Mapping[str, Any]
    digest: str
    columns: Mapping[str, Sequence[Any]]
    cpu_s: float
    versions: Mapping[str, str]
    failed: str | None = None

    @property
    def key(self) -> str:
        """Key of the run, as that of its cell."""
        return json.dumps(self.values, sort_keys=True)


def kept_columns(rows: Sequence[Row], keep: Sequence[str]) -> dict[str, list[Any]]:
    """Return the columns to keep, with a value for each round; None where a round has none."""
    names = dict.fromkeys(name for row in rows for name in row)
    chosen = [name for name in names if any(_fits(name, pattern) for pattern in keep)]
    return {name: [_rounded(row.get(name)) for row in rows] for name in chosen}


def _fits(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def append_record(path: Path, record: Record) -> None:
    """Append a record to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    append_line(path, json.dumps(asdict(record)))


def read_records(path: Path) -> list[Record]:
    """Read all records of a file, of which there may be none yet; the last of a run counts.

    Raises ``ValueError`` for a line that is no record; a last line that was cut short is left out.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    found: dict[tuple[str, str], Record] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = Record(**json.loads(line))
        except (ValueError, TypeError) as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number} is no record of a run: {error}; remove that line") from error
        found[record.key, record.digest] = record
    return list(found.values())
