"""What the files of a run folder hold, as far as commands use it; further entries are kept as they are."""

from __future__ import annotations

from datetime import datetime
from math import nan
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

_Number = Annotated[float, Field(strict=True)]
_Count = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
_Positive = Annotated[int, Field(strict=True, ge=1, lt=2**63)]
_Text = Annotated[str, Field(strict=True)]


def _is_date(text: str) -> str:
    datetime.fromisoformat(text)
    return text


_Date = Annotated[_Text, AfterValidator(_is_date)]


class _Kind(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())


class NamedSection(_Kind):
    """Section of a configuration that has a name."""

    name: _Text


class PartitionSection(NamedSection):
    """Section ``partition`` of a configuration."""

    num_owners: _Positive


class TrainingSection(_Kind):
    """Section ``training`` of a configuration."""

    rounds: _Positive


class ReliabilitySection(_Kind):
    """Section ``reliability`` of a configuration."""

    checkpoint_location: _Text | None = None


class ConfigOutline(_Kind):
    """The settings in ``config.yaml`` that tables of runs show; nothing that they name is imported."""

    algorithm: NamedSection
    training: TrainingSection
    partition: PartitionSection
    data: NamedSection | None = None
    model: NamedSection | None = None
    reliability: ReliabilitySection = ReliabilitySection()


class Summary(_Kind):
    """Content of ``summary.json``."""

    stopped: _Text


class Environment(_Kind):
    """Content of ``environment.json``."""

    started: _Date | None = None
    packages: dict[_Text, _Text] = {}
    python: _Text | None = None
    platform: _Text | None = None
    cpus: _Count | None = None
    cuda: bool | None = None
    cluster: dict[_Text, Any] = {}


class OwnerStatement(_Kind):
    """What one owner has said of its samples before a run, in ``data.json``."""

    owner: _Text
    bytes: _Count
    numeric: list[_Text] = []
    categories: dict[_Text, list[_Text]] = {}


class DataStatements(_Kind):
    """The part of ``data.json`` that has left the owners."""

    statements: list[OwnerStatement] = []


class MetricsRow(_Kind):
    """Line of ``metrics.jsonl``."""

    round: _Positive
    train_loss: _Number = nan
    num_owners: _Count
    num_samples: _Count
    seconds: Annotated[_Number, Field(gt=0)]
    train_seconds_total: _Number
    samples_per_s: _Number
    bytes: _Count
    bytes_total: _Count
    test_accuracy: _Number = nan
    test_loss: _Number = nan
    primary: _Number = nan
    primary_metric: _Text | None = None
    primary_better: _Text | None = None
    primary_naive: _Number = nan
    majority_accuracy: _Number = nan
    min_accuracy: _Number = nan
    max_loss: _Number = nan
    owner_accuracy: _Number = nan
    owner_accuracy_sd: _Number = nan
    owner_loss: _Number = nan
    owner_loss_sd: _Number = nan
    tested_on: _Text | None = None
    train_loss_told_by: _Text | None = None
    num_members: _Count = 0
    came: list[_Text] = []
    left: list[_Text] = []


class TrafficRow(_Kind):
    """Row of ``traffic.parquet``: the bytes and messages on a link; both for each kind of value are further columns."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, _Count]

    source: _Text
    destination: _Text
    num_bytes: _Count
    num_messages: _Count


METRICS: TypeAdapter[list[MetricsRow]] = TypeAdapter(list[MetricsRow])
TRAFFIC: TypeAdapter[list[TrafficRow]] = TypeAdapter(list[TrafficRow])


def checked_rows(rows: Any) -> None:
    """Raise ``ValueError`` with the first mistake in the metrics of rounds."""
    try:
        METRICS.validate_python(rows)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        row, *steps = first["loc"] or ("rows",)
        where = f"line {row + 1}" if isinstance(row, int) else str(row)
        raise ValueError(f"{'.'.join([where, *map(str, steps)])}: {first['msg']}") from error
