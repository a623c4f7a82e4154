"""What the files of a run folder hold, as far as commands use it; further entries are kept as they are."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

_Number = Annotated[float, Field(strict=True)]
_Count = Annotated[int, Field(strict=True, ge=0)]
_Text = Annotated[str, Field(strict=True)]


class _Kind(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())


class NamedSection(_Kind):
    """Section of a configuration that has a name."""

    name: _Text


class PartitionSection(NamedSection):
    """Section ``partition`` of a configuration."""

    num_owners: Annotated[int, Field(strict=True, ge=1)]


class TrainingSection(_Kind):
    """Section ``training`` of a configuration."""

    rounds: Annotated[int, Field(strict=True, ge=1)]


class ReliabilitySection(_Kind):
    """Section ``reliability`` of a configuration."""

    checkpoint_location: _Text | None = None


class ConfigOutline(_Kind):
    """The settings in ``config.yaml`` that tables of runs show; nothing that they name is imported."""

    algorithm: NamedSection
    training: TrainingSection
    partition: PartitionSection | None = None
    data: NamedSection | None = None
    model: NamedSection | None = None
    reliability: ReliabilitySection = ReliabilitySection()


class Summary(_Kind):
    """Content of ``summary.json``."""

    stopped: _Text


class Environment(_Kind):
    """Content of ``environment.json``."""

    started: _Text | None = None
    packages: dict[_Text, _Text] = {}
    python: _Text | None = None
    platform: _Text | None = None
    cpus: _Count | None = None
    cuda: bool | None = None
    cluster: dict[_Text, Any] = {}


class MetricsRow(_Kind):
    """Line of ``metrics.jsonl``."""

    round: Annotated[int, Field(strict=True, ge=1)]
    train_loss: _Number
    num_owners: _Count
    seconds: _Number
    train_seconds_total: _Number
    samples_per_s: _Number
    bytes: _Count
    bytes_total: _Count
    test_accuracy: _Number | None = None
    test_loss: _Number | None = None
    majority_accuracy: _Number | None = None
    min_accuracy: _Number | None = None


class TrafficRow(_Kind):
    """Row of ``traffic.parquet``: the bytes and messages on a link."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: _Text
    destination: _Text
    num_bytes: _Count
    num_messages: _Count


METRICS: TypeAdapter[list[MetricsRow]] = TypeAdapter(list[MetricsRow])
TRAFFIC: TypeAdapter[list[TrafficRow]] = TypeAdapter(list[TrafficRow])
