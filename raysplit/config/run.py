"""The configuration of a run: YAML, checked before anything starts.

Sections: ``model``, ``data``, ``partition``, ``algorithm``, ``training``, ``evaluation``, ``cluster``, ``output``.
Options of data sets, partitions and algorithms stand beside their ``name``; they are checked by the piece that takes
them. An algorithm's option that belongs to another algorithm only is left out with a log line, so that one file
serves a comparison; an option that nobody knows is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from raysplit.actors.parts.losses import LOSSES
from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.algorithms import ALGORITHMS, resolve_algorithm
from raysplit.algorithms.setting import Options
from raysplit.config.errors import ConfigError, explained
from raysplit.config.overrides import read_tree
from raysplit.config.sections import OutputConfig, OwnersConfig
from raysplit.data.datasets import dataset_names
from raysplit.data.partition.laws import partition_names
from raysplit.experiment.cluster import ClusterOptions
from raysplit.experiment.rules import EvaluationRules, ReliabilityRules
from raysplit.experiment.topology import Topology
from raysplit.models.zoo import model_names
from raysplit.registry import known, one_of
from raysplit.schedulers.learning_rate import SCHEDULES
from raysplit.schedulers.rules import Rules

__all__ = ["ConfigError", "RunConfig", "check_config", "dump_config", "load_config"]

logger = logging.getLogger(__name__)


class Named(BaseModel):
    """A section with a ``name`` and the options of what it names."""

    model_config = ConfigDict(
        extra="allow", frozen=True, allow_inf_nan=False, protected_namespaces=(), use_attribute_docstrings=True
    )

    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class ModelConfig(Named):
    """A network by name or import path; further keys go to it."""

    name: str = "cnn8"
    dtype: Literal["float32", "float64"] = "float32"
    """In which weights and smashed data are kept."""

    _known = field_validator("name")(lambda cls, value: known("model", value, model_names()))


class DataConfig(Named):
    """A data set by name, file or import path; further keys go to its loader."""

    name: str = "digits"
    root: str | None = None
    """The local folder of torchvision's sets and of relative file names."""
    download: bool = False
    """Fetch a torchvision set that is missing there."""
    augment: bool = True
    """Random crops and flips, where the set has them."""
    train_samples: int | None = Field(default=None, ge=1)
    """Take so many samples, drawn by the seed, instead of all."""
    test_samples: int | None = Field(default=None, ge=1)
    """Take so many samples, drawn by the seed, instead of all."""

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        is_file = value.endswith((".npz", ".parquet"))
        return value if is_file else known("data set", value, dataset_names())


class PartitionConfig(Named):
    """Who holds which samples; further keys go to the partition."""

    name: str = "iid"
    num_owners: int = Field(default=10, ge=1)
    """Among whom the training samples are shared out."""

    _known = field_validator("name")(lambda cls, value: known("partition", value, partition_names()))


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
        try:
            return kind(**{key: value for key, value in self.options.items() if key not in unused})
        except ValidationError as error:
            raise explained(error, kind, "algorithm") from None


class OptimizerConfig(BaseModel):
    """An optimiser of ``torch.optim`` by its name in lower case; further keys go to it."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    name: str = "sgd"
    lr: float = Field(default=0.01, ge=0)
    """Learning rate."""

    def spec(self) -> OptimizerSpec:
        return OptimizerSpec(name=self.name, lr=self.lr, options=dict(self.model_extra or {}))

    @model_validator(mode="after")
    def _buildable(self) -> OptimizerConfig:
        self.spec()
        return self


class TrainingConfig(Rules):
    """How long and how fast."""

    rounds: int = Field(default=10, ge=1)
    """Averaged or evaluated so many times; what happens in one is the algorithm's."""
    batch_size: int = Field(default=32, ge=1)
    """Samples per mini-batch of an owner."""
    local_epochs: int = Field(default=1, ge=1)
    """Passes over an owner's data per round."""
    max_steps: int | None = Field(default=None, ge=1)
    """At most so many mini-batches per owner and round."""
    cohort_size: int | None = Field(default=None, ge=1)
    """Owners drawn per round; None takes all."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Of owners' parts."""
    server_optimizer: OptimizerConfig | None = None
    """Of compute nodes' parts; None takes ``optimizer``."""
    owner_optimizer_state: Literal["restart", "keep"] = "restart"
    """``restart`` forgets momentum every round."""
    server_optimizer_state: Literal["restart", "keep"] = "keep"
    """``restart`` forgets momentum every round."""
    lr_schedule: str = "constant"
    """A factor per round on every rate."""
    loss: str = "cross_entropy"
    """By name or import path."""
    shuffle: bool = True
    """Draw a new order for every local epoch."""
    drop_last: bool = False
    """Leave out an incomplete last mini-batch."""
    buffers: Literal["average", "local"] = "average"
    """``average`` treats batch-norm statistics like weights (weighted mean, counters copied); ``local`` lets every
    owner keep its own."""

    _known_loss = field_validator("loss")(lambda cls, value: known("loss", value, list(LOSSES)))
    _known = field_validator("lr_schedule")(lambda cls, value: one_of("learning-rate schedule", value, list(SCHEDULES)))


class RunConfig(Rules):
    """A whole run."""

    seed: int = Field(default=0, ge=0)
    """Of every random stream: partition, initial weights, batches, dropout, cohort."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    partition: PartitionConfig = PartitionConfig()
    owners: OwnersConfig = OwnersConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationRules = EvaluationRules()
    cluster: ClusterOptions = ClusterOptions()
    topology: Topology | None = None
    reliability: ReliabilityRules = ReliabilityRules()
    output: OutputConfig = OutputConfig()

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        self.algorithm.resolved_options()
        owners, cohort = self.partition.num_owners, self.training.cohort_size
        if cohort is not None and cohort > owners:
            raise ValueError(f"training.cohort_size is {cohort} and there are {owners} owners; take at most all")
        if self.reliability.is_open and not resolve_algorithm(self.algorithm.name).works_apart:
            raise ValueError(
                f"in {self.algorithm.name} owners need one another, so a round cannot go on without some; leave "
                f"reliability.round_deadline_s and over_selection out, or take fedavg or fedprox"
            )
        if self.cluster.elastic is not None:
            self._fit_for_elastic(self.cluster)
        if self.owners.noisy > owners:
            raise ValueError(f"owners.noisy is {self.owners.noisy} and there are {owners} owners; take at most all")
        return self

    def _fit_for_elastic(self, cluster: ClusterOptions) -> None:
        """Raises ``ValueError`` for what cannot be where owners come and go."""
        method = resolve_algorithm(self.algorithm.name)
        if not method.comes_and_goes:
            able = [name for name, other in ALGORITHMS.items() if other.comes_and_goes]
            raise ValueError(
                f"{self.algorithm.name} needs all its owners throughout, so cluster.elastic is not for it; take one "
                f"of {', '.join(able)}, or leave it out"
            )
        if cluster.kind == "ray" and cluster.places == "auto" and cluster.sharing == "auto":
            raise ValueError("an elastic run grows to cluster.places, which is auto; give a number, or sharing: alone")
        if self.reliability.checkpoint_every is None:
            raise ValueError(
                "an elastic run goes on from the last checkpoint when owners leave or come back, and "
                "reliability.checkpoint_every is null; set it to 1"
            )
        if self.topology is not None and self.topology.pace:
            raise ValueError(
                "topology.pace is on, and a paced run is not elastic; set pace: false or leave elastic out"
            )


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file (None: all defaults), apply ``a.b=c`` overrides in order, check. Raises `ConfigError`."""
    return check_config(read_tree(path, overrides))


def check_config(tree: Mapping[str, Any]) -> RunConfig:
    """A checked configuration from plain data. Raises `ConfigError` listing every mistake."""
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise explained(error, RunConfig) from None


def dump_config(config: RunConfig) -> str:
    """The resolved configuration as YAML; `load_config` reads it back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
