"""One reader for each file of a run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from raysplit.cluster.contract import KindTraffic, LinkTraffic
from raysplit.cluster.links.kinds import KINDS
from raysplit.plain_yaml import NotYaml, read
from raysplit.runs.records.damaged import Damaged, bytes_of, reading, text_of
from raysplit.runs.records.files import CONFIG
from raysplit.runs.records.kinds import TRAFFIC, ConfigOutline, DataStatements, Environment, Summary, checked_rows

if TYPE_CHECKING:
    from torch import Tensor

Row = dict[str, Any]
CUT_SHORT = "cut short"
"""Value of ``stopped`` for a run that an error or a person interrupted."""
DIVERGED = "diverged"
"""Value of ``stopped`` for a run whose loss or weights ceased to be numbers; going on would end in the same way."""


def read_settings(folder: Path) -> dict[str, Any]:
    """Read ``config.yaml`` as plain data with text keys, whose outline is checked; nothing that it names is imported.

    Raises:
        ValueError: there is none, or it is `Damaged`.
    """
    path = folder / CONFIG
    try:
        text = text_of(path)
    except FileNotFoundError:
        raise ValueError(f"{folder} is not a run folder: it has no {CONFIG}; raysplit list shows the runs") from None
    try:
        tree = read(text, CONFIG)
    except NotYaml as error:
        raise Damaged(path, str(error)) from error
    if not isinstance(tree, dict):
        raise Damaged(path, "it is empty" if tree is None else f"it holds a {type(tree).__name__}, not sections")
    _require_text_keys(path, tree)
    _checked(path, ConfigOutline.model_validate, tree)
    return tree


def read_outline(folder: Path) -> ConfigOutline:
    """Read the settings of a run that tables show. Raises as `read_settings` does."""
    return ConfigOutline.model_validate(read_settings(folder))


def read_summary(folder: Path) -> dict[str, Any]:
    """Read ``summary.json``; empty where it has not been written yet. Raises `Damaged`."""
    return _mapping(folder / "summary.json", Summary.model_validate)


def read_environment(folder: Path) -> dict[str, Any]:
    """Read ``environment.json``; empty where it has not been written yet. Raises `Damaged`."""
    return _mapping(folder / "environment.json", Environment.model_validate)


def started_at(folder: Path) -> str | None:
    """Return when the run in a folder began, as ISO 8601 text; None for folders that do not say. Raises `Damaged`."""
    return read_environment(folder).get("started")


def read_statements(folder: Path) -> list[dict[str, Any]]:
    """Read what owners have said of their samples before the run, from ``data.json``. Raises `Damaged`."""
    found: list[dict[str, Any]] = _mapping(folder / "data.json", DataStatements.model_validate).get("statements", [])
    return found


def stop_of(folder: Path) -> str:
    """Return why a run ended, or ``cut short``. Raises `Damaged`."""
    return str(read_summary(folder).get("stopped", CUT_SHORT))


def finished(folder: Path) -> bool:
    """Return whether the run in a folder has finished, at its last round or at an early stop. Raises `Damaged`."""
    return stop_of(folder) not in (CUT_SHORT, DIVERGED)


def read_rows(folder: Path) -> list[Row]:
    """Read ``metrics.jsonl``; empty before the first round ends. A last line that is being written is left out.

    Raises `Damaged`.
    """
    path = folder / "metrics.jsonl"
    try:
        lines = text_of(path).split("\n")
    except FileNotFoundError:
        return []
    complete = [line for line in lines[:-1] if line] + ([lines[-1]] if lines[-1].endswith("}") else [])
    with reading(path):
        rows = [json.loads(line) for line in complete]
    try:
        checked_rows(rows)
    except ValueError as error:
        raise Damaged(path, str(error)) from error
    numbers = [row["round"] for row in rows]
    if numbers != list(range(1, len(rows) + 1)):
        wrong = next(index for index, number in enumerate(numbers, 1) if number != index)
        raise Damaged(path, f"its line {wrong} is of round {numbers[wrong - 1]}")
    return rows


def read_metrics(folder: Path) -> list[Row]:
    """Read the metrics of a run, finished or not. Raises ``ValueError`` where there are none, and `Damaged`."""
    rows = read_rows(folder)
    if not rows:
        if not (folder / "metrics.jsonl").exists():
            raise ValueError(f"{folder} is not a run folder: it has no metrics.jsonl")
        raise ValueError(f"{folder} has no finished round yet")
    return rows


def read_traffic(folder: Path) -> tuple[LinkTraffic, ...]:
    """Read the traffic of a run; empty where it has not been written yet. Raises `Damaged`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "traffic.parquet"
    try:
        content = bytes_of(path)
    except FileNotFoundError:
        return ()
    with reading(path):
        rows = pq.read_table(pa.BufferReader(content), page_checksum_verification=True).to_pylist()
    _checked(path, TRAFFIC.validate_python, rows)
    return tuple(_link_traffic(row) for row in rows)


def _link_traffic(row: Mapping[str, Any]) -> LinkTraffic:
    of_kinds = [KindTraffic(k, row.get(f"{k}_bytes", 0), row.get(f"{k}_raw_bytes", 0)) for k in KINDS]
    return LinkTraffic(
        source=row["source"],
        destination=row["destination"],
        num_bytes=row["num_bytes"],
        num_messages=row["num_messages"],
        kinds=tuple(kind for kind in of_kinds if kind.num_bytes),
    )


def read_models(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Read the trained weights of a run by label; empty before its first evaluation. Raises `Damaged`."""
    path = folder / "model.pt"
    if not path.exists():
        return {}
    import torch

    with reading(path):
        content = torch.load(path, map_location="cpu", weights_only=True)
    if _is_state(content):
        return {"global": content}
    if isinstance(content, dict) and content and all(_is_state(state) for state in content.values()):
        return content
    raise Damaged(path, "it holds neither weights by name nor such weights by model")


def _is_state(found: Any) -> bool:
    import torch

    return isinstance(found, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in found.items()
    )


def _mapping(path: Path, kind: Any) -> dict[str, Any]:
    try:
        text = text_of(path)
    except FileNotFoundError:
        return {}
    with reading(path):
        content = json.loads(text)
    if not isinstance(content, dict):
        raise Damaged(path, f"it holds a {type(content).__name__}, not entries by name")
    _checked(path, kind, content)
    return content


def _checked(path: Path, check: Any, content: Any) -> Any:
    try:
        return check(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Damaged(path, f"{_place(first['loc'])}{first['msg']}") from error


def _place(location: Sequence[int | str]) -> str:
    steps = [f"line {step + 1}" if isinstance(step, int) else step for step in location]
    return f"{'.'.join(steps)}: " if steps else ""


def _require_text_keys(path: Path, tree: Mapping[Any, Any], where: str = "") -> None:
    for key, value in tree.items():
        if not isinstance(key, str):
            raise Damaged(path, f"the key {key!r}{f' of {where}' if where else ''} is not text")
        if isinstance(value, dict):
            _require_text_keys(path, value, f"{where}.{key}".strip("."))
