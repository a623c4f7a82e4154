"""Readers of what a run folder says beside its metrics: waits, prediction, and how the samples were divided."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from raysplit.runs.records.damaged import Damaged, bytes_of, reading, text_of

WAITS = "waits.parquet"
"""Name of the file with the seconds that each party has waited for others."""
_Count = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Time = Annotated[float, Field(allow_inf_nan=False)]


class _Kind(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Owners(_Kind):
    """The owners in ``data.json``: samples of each, and of each class."""

    num: _Count
    samples: dict[str, _Count] = {}
    classes: dict[str, dict[str, _Count]] = {}


class Target(_Kind):
    """A target in ``data.json``: by side, the samples of each class, where there are classes."""

    counts: dict[str, list[_Count]] = {}


class AboutData(_Kind):
    """Content of ``data.json``, as far as reports use it."""

    name: str
    owners: Owners | None = None
    targets: dict[str, Target] = {}


class Prediction(_Kind):
    """Content of ``prediction.json``: seconds predicted and measured, of a round and of each party at work."""

    round_s: tuple[_Time, _Time]
    busy_s: dict[str, tuple[_Time, _Time]] = {}
    error: _Time
    pace: str | None = None


class WaitFor(_Kind):
    """Who was waited for, and how long."""

    party: str
    wait_s: _Seconds


class Wait(_Kind):
    """A line of ``waits.parquet``; runs of earlier versions do not say who was waited for."""

    party: str
    wait_s: _Seconds
    rounds: _Count
    waited_for: list[WaitFor] = []


_WAITS = TypeAdapter(list[Wait])


def read_about_data(folder: Path) -> AboutData | None:
    """Read ``data.json``; None where there is none. Raises `Damaged`."""
    found: AboutData | None = _json(folder / "data.json", AboutData)
    return found


def read_prediction(folder: Path) -> Prediction | None:
    """Read ``prediction.json``; None where there is none. Raises `Damaged`."""
    found: Prediction | None = _json(folder / "prediction.json", Prediction)
    return found


def read_waits(folder: Path) -> list[Wait]:
    """Read ``waits.parquet``; empty where there is none. Raises `Damaged`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / WAITS
    try:
        content = bytes_of(path)
    except FileNotFoundError:
        return []
    with reading(path):
        rows = pq.read_table(pa.BufferReader(content), page_checksum_verification=True).to_pylist()
    return list(_checked(path, _WAITS.validate_python, rows))


def _json(path: Path, kind: Any) -> Any:
    try:
        text = text_of(path)
    except FileNotFoundError:
        return None
    with reading(path):
        content: Mapping[str, Any] = json.loads(text)
    return _checked(path, kind.model_validate, content)


def _checked(path: Path, check: Any, content: Any) -> Any:
    try:
        return check(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
