"""The configuration of a run: YAML, checked before anything starts.

Sections: ``model``, ``data``, ``partition``, ``algorithm``, ``training``, ``evaluation``, ``cluster``, ``output``.
Options of data sets, partitions and algorithms stand beside their ``name``; they are checked by the piece that takes
them. An algorithm's option that belongs to another algorithm only is left out with a log line, so that one file
serves a comparison; an option that nobody knows is an error.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from raysplit.actors.optim import OptimizerSpec
from raysplit.algorithms import ALGORITHMS, resolve_algorithm
from raysplit.algorithms.base import Options
from raysplit.data.datasets import dataset_names
from raysplit.data.partition import partition_names
from raysplit.models.zoo import model_names
from raysplit.schedulers.learning_rate import SCHEDULES

logger = logging.getLogger(__name__)


class ConfigError(ValueError):
    """The configuration is wrong; the message names key, value, rule and way out."""


class Section(BaseModel):
    """Unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Named(BaseModel):
    """A section with a ``name`` and the options of what it names."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class ModelConfig(Named):
    """A network by name or import path; further keys go to it."""

    name: str = "cnn8"
    dtype: Literal["float32", "float64"] = "float32"

    _known = field_validator("name")(lambda cls, value: _known("model", value, model_names()))


class DataConfig(Named):
    """A data set by name, file or import path; further keys go to its loader.

    ``train_samples`` and ``test_samples`` take so many samples, drawn by the seed, instead of all.
    """

    name: str = "digits"
    root: str | None = None
    download: bool = False
    augment: bool = True
    train_samples: int | None = Field(default=None, ge=1)
    test_samples: int | None = Field(default=None, ge=1)

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        is_file = value.endswith((".npz", ".parquet"))
        return value if is_file else _known("data set", value, dataset_names())


class OwnersConfig(Section):
    """What makes owners differ beside their shards.

    Attributes:
        domain: a transform per owner (see `raysplit.data.domains`).
        noisy: this many owners, the last ones, have noise.
        pixel_noise: its standard deviation on their training and test inputs.
        label_noise: the fraction of their training labels that is flipped.
    """

    domain: str | None = None
    noisy: int = Field(default=0, ge=0)
    pixel_noise: float = Field(default=0.0, ge=0)
    label_noise: float = Field(default=0.0, ge=0, le=1)


class PartitionConfig(Named):
    """Who holds which samples; further keys go to the partition."""

    name: str = "iid"
    num_owners: int = Field(default=10, ge=1)

    _known = field_validator("name")(lambda cls, value: _known("partition", value, partition_names()))


class AlgorithmConfig(Named):
    """A training method by name or import path; further keys are its options."""

    name: str = "minibatch_sfl"

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        resolve_algorithm(value)
        return value

    def resolved_options(self) -> Options:
        """The options of this algorithm, checked; options of other algorithms only are left out."""
        kind = resolve_algorithm(self.name).options_type
        foreign = {key for other in ALGORITHMS.values() for key in other.options_type.model_fields}
        unused = [key for key in self.options if key not in kind.model_fields and key in foreign]
        if unused:
            logger.info("%s does not use the options %s", self.name, ", ".join(sorted(unused)))
        return kind(**{key: value for key, value in self.options.items() if key not in unused})


class OptimizerConfig(BaseModel):
    """An optimiser of ``torch.optim`` by its name in lower case; further keys go to it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = "sgd"
    lr: float = Field(default=0.01, ge=0)

    def spec(self) -> OptimizerSpec:
        return OptimizerSpec(name=self.name, lr=self.lr, options=dict(self.model_extra or {}))

    @model_validator(mode="after")
    def _buildable(self) -> OptimizerConfig:
        self.spec()
        return self


class TrainingConfig(Section):
    """How long and how fast.

    Attributes:
        cohort_size: owners drawn per round; None takes all.
        max_steps: at most so many mini-batches per owner and round.
        server_optimizer: of compute nodes' parts; None takes ``optimizer``.
        owner_optimizer_state, server_optimizer_state: ``restart`` forgets momentum every round.
        buffers: ``average`` treats batch-norm statistics like weights (weighted mean, counters copied);
            ``local`` lets every owner keep its own.
        lr_schedule: a factor per round on every rate.
    """

    rounds: int = Field(default=10, ge=1)
    batch_size: int = Field(default=32, ge=1)
    local_epochs: int = Field(default=1, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    cohort_size: int | None = Field(default=None, ge=1)
    optimizer: OptimizerConfig = OptimizerConfig()
    server_optimizer: OptimizerConfig | None = None
    owner_optimizer_state: Literal["restart", "keep"] = "restart"
    server_optimizer_state: Literal["restart", "keep"] = "keep"
    lr_schedule: str = "constant"
    loss: str = "cross_entropy"
    shuffle: bool = True
    drop_last: bool = False
    buffers: Literal["average", "local"] = "average"

    _known = field_validator("lr_schedule")(lambda cls, value: _known("learning-rate schedule", value, list(SCHEDULES)))


class EvaluationConfig(Section):
    """When to look, and when to stop.

    Attributes:
        every: evaluate after every so many rounds (and after the last).
        target_accuracy: stop when the test accuracy reaches it.
        targets: accuracies whose steps and bytes the summary tells, without stopping.
        patience: stop after so many evaluations without a better accuracy.
        divergence_every: measure the gradient divergence at the start of every so many rounds; None never.
    """

    every: int = Field(default=1, ge=1)
    target_accuracy: float | None = Field(default=None, gt=0, le=1)
    targets: tuple[float, ...] = ()
    patience: int | None = Field(default=None, ge=1)
    divergence_every: int | None = Field(default=None, ge=1)


class ClusterConfig(Section):
    """Where parties live.

    Attributes:
        kind: ``ray``, or ``local`` for one process.
        address: of a running Ray cluster; None takes RAY_ADDRESS or starts a local one.
        places: processes; ``auto`` takes one per CPU.
        sharing: ``alone`` gives every party a process of its own.
        device: where parts compute; ``auto`` takes CUDA where Ray offers GPUs.
        gpus_per_place: share of a GPU that each place reserves when the device is CUDA.
    """

    kind: Literal["ray", "local"] = "ray"
    address: str | None = None
    num_cpus: int | None = Field(default=None, ge=1)
    places: int | Literal["auto"] = "auto"
    sharing: Literal["auto", "alone"] = "auto"
    strategy: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    object_store_mib: int = Field(default=512, ge=80)
    placement_timeout_s: float = Field(default=60.0, gt=0)
    dashboard: bool = False
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    gpus_per_place: float | Literal["auto"] = "auto"


class OutputConfig(Section):
    """Where results go: ``<root>/<name>/``."""

    root: str = "runs"
    name: str | None = None
    overwrite: bool = False


class RunConfig(Section):
    """A whole run."""

    seed: int = Field(default=0, ge=0)
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    partition: PartitionConfig = PartitionConfig()
    owners: OwnersConfig = OwnersConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    cluster: ClusterConfig = ClusterConfig()
    output: OutputConfig = OutputConfig()

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        self.algorithm.resolved_options()
        owners, cohort = self.partition.num_owners, self.training.cohort_size
        if cohort is not None and cohort > owners:
            raise ValueError(f"training.cohort_size is {cohort} and there are {owners} owners; take at most all")
        if self.owners.noisy > owners:
            raise ValueError(f"owners.noisy is {self.owners.noisy} and there are {owners} owners; take at most all")
        return self


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file (None: all defaults), apply ``a.b=c`` overrides in order, check. Raises `ConfigError`."""
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid YAML: {error}") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise ConfigError(f"{path} holds a {type(loaded).__name__}; a configuration is a mapping of sections")
        tree = loaded or {}
    for override in overrides:
        _apply(tree, override)
    return check_config(tree)


def check_config(tree: Mapping[str, Any]) -> RunConfig:
    """A checked configuration from plain data. Raises `ConfigError` listing every mistake."""
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(item) for item in error.errors())) from None
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from None


def dump_config(config: RunConfig) -> str:
    """The resolved configuration as YAML; `load_config` reads it back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r} is not of the form section.key=value")
    *sections, leaf = key.strip().split(".")
    node = tree
    for section in sections:
        child = node.get(section)
        if child is None:
            child = node[section] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"override {override!r}: {section} is a value, not a section")
        node = child
    try:
        node[leaf] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: {text!r} is not valid YAML: {error}") from error


def _known(kind: str, value: str, names: Sequence[str]) -> str:
    if value in names or ":" in value:
        return value
    near = difflib.get_close_matches(value, names, 1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {kind} {value!r}{hint} (one of {', '.join(names)}; or package.module:name)")


def _explain(item: Any) -> str:
    where = ".".join(str(step) for step in item["loc"]) or "configuration"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(item["loc"][-1]), _fields_at(item["loc"][:-1]), 1, cutoff=0.5)
        known = ", ".join(_fields_at(item["loc"][:-1]))
        return f"{where}: unknown key" + (f"; did you mean {near[0]!r}?" if near else "") + f" (known: {known})"
    message = str(item["msg"]).removeprefix("Value error, ")
    value = item.get("input")
    shown = f" (got {value!r})" if isinstance(value, str | int | float | bool) and repr(value) not in message else ""
    return f"{where}: {message}{shown}"


def _fields_at(location: tuple[Any, ...]) -> list[str]:
    kind: Any = RunConfig
    for step in location:
        field = kind.model_fields.get(step) if hasattr(kind, "model_fields") else None
        kind = field.annotation if field is not None else None
        if kind is None:
            break
        kind = next((t for t in getattr(kind, "__args__", ()) if hasattr(t, "model_fields")), kind)
    if kind is None or not hasattr(kind, "model_fields"):
        return sorted({key for other in ALGORITHMS.values() for key in other.options_type.model_fields})
    return list(kind.model_fields)
