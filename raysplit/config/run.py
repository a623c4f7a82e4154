"""The configuration of a run: its sections as pydantic classes, which are checked before the run starts.

Options of models, data sets, partitions and algorithms are keys beside their ``name``, and are checked by the code that
takes them. An option that only other algorithms have is ignored and logged, so that one file serves a comparison; an
option that no algorithm has is an error.
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
from raysplit.data.datasets import known_dataset
from raysplit.data.partition.laws import partition_names
from raysplit.experiment.cluster import ClusterOptions
from raysplit.experiment.links import LinkOptions
from raysplit.experiment.rules import EvaluationRules, ReliabilityRules
from raysplit.experiment.topology import Topology
from raysplit.models.zoo import known_model
from raysplit.registry import known, one_of
from raysplit.schedulers.learning_rate import SCHEDULES
from raysplit.schedulers.rules import Rules

__all__ = ["ConfigError", "RunConfig", "check_config", "dump_config", "load_config"]

logger = logging.getLogger(__name__)


class Named(BaseModel):
    """Section with a ``name`` and the options of what it names."""

    model_config = ConfigDict(
        extra="allow", frozen=True, allow_inf_nan=False, protected_namespaces=(), use_attribute_docstrings=True
    )

    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class ModelConfig(Named):
    """Neural network; further keys are passed to its builder."""

    name: str = "cnn8"
    """Name or import path of the network."""
    dtype: Literal["float32", "float64"] = "float32"
    """Type of weights and smashed data."""

    _known = field_validator("name")(lambda cls, value: known_model(value))


class DataConfig(Named):
    """Data set; further keys are passed to its loader."""

    name: str = "digits"
    """Name, file or import path of the data set."""
    root: str | None = None
    """Local folder of torchvision data sets and of relative file names."""
    download: bool = False
    """Download a torchvision data set that is not in ``root``."""
    augment: bool = True
    """Apply random crops and flips, for data sets that have them."""
    train_samples: int | None = Field(default=None, ge=1)
    """Number of training samples, drawn with the seed; None takes all."""
    test_samples: int | None = Field(default=None, ge=1)
    """Number of test samples, drawn with the seed; None takes all."""

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        is_file = value.endswith((".npz", ".parquet"))
        return value if is_file else known_dataset(value)


class PartitionConfig(Named):
    """Partition of the samples over the owners; further keys are its options."""

    name: str = "iid"
    """Name or import path of the partition."""
    num_owners: int = Field(default=10, ge=1)
    """Number of owners that the training samples are divided among."""

    _known = field_validator("name")(lambda cls, value: known("partition", value, partition_names()))


class AlgorithmConfig(Named):
    """Training algorithm; further keys are its options."""

    name: str = "minibatch_sfl"
    """Name or import path of the algorithm."""

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        resolve_algorithm(value)
        return value

    def resolved_options(self) -> Options:
        """Return the checked options of the algorithm, without options that only other algorithms have."""
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
    """Optimizer of ``torch.optim``; further keys are its arguments."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    name: str = "sgd"
    """Name of the optimizer in lower case."""
    lr: float = Field(default=0.01, ge=0)
    """Learning rate."""

    def spec(self) -> OptimizerSpec:
        return OptimizerSpec(name=self.name, lr=self.lr, options=dict(self.model_extra or {}))

    @model_validator(mode="after")
    def _buildable(self) -> OptimizerConfig:
        self.spec()
        return self


class TrainingConfig(Rules):
    """Length of training, batches, optimizers and loss."""

    rounds: int = Field(default=10, ge=1)
    """Number of rounds; the algorithm defines what a round does."""
    batch_size: int = Field(default=32, ge=1)
    """Number of samples in a mini-batch of an owner."""
    local_epochs: int = Field(default=1, ge=1)
    """Number of passes over an owner's data per round."""
    max_steps: int | None = Field(default=None, ge=1)
    """Largest number of mini-batches per owner and round; None sets no limit."""
    cohort_size: int | None = Field(default=None, ge=1)
    """Number of owners drawn per round; None takes all."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimizer of the owners' parts."""
    server_optimizer: OptimizerConfig | None = None
    """Optimizer of the compute nodes' parts; None takes ``optimizer``."""
    owner_optimizer_state: Literal["restart", "keep"] = "restart"
    """Optimizer state of the owners between rounds: ``restart`` clears momentum, ``keep`` keeps it."""
    server_optimizer_state: Literal["restart", "keep"] = "keep"
    """Optimizer state of the compute nodes between rounds: ``restart`` clears momentum, ``keep`` keeps it."""
    lr_schedule: str = "constant"
    """Name of the schedule that multiplies every learning rate by a factor per round."""
    loss: str = "cross_entropy"
    """Name or import path of the loss."""
    shuffle: bool = True
    """Shuffle an owner's samples anew for every local epoch."""
    drop_last: bool = False
    """Skip an incomplete last mini-batch."""
    buffers: Literal["average", "local"] = "average"
    """Treatment of batch-norm statistics: ``average`` averages them like weights (counters are copied), ``local`` lets
    every owner keep its own."""

    _known_loss = field_validator("loss")(lambda cls, value: known("loss", value, list(LOSSES)))
    _known = field_validator("lr_schedule")(lambda cls, value: one_of("learning-rate schedule", value, list(SCHEDULES)))


class RunConfig(Rules):
    """Configuration of a run."""

    seed: int = Field(default=0, ge=0)
    """Seed of all random numbers: partition, initial weights, batches, dropout and cohort."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    partition: PartitionConfig = PartitionConfig()
    owners: OwnersConfig = OwnersConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationRules = EvaluationRules()
    links: LinkOptions = LinkOptions()
    cluster: ClusterOptions = ClusterOptions()
    topology: Topology | None = None
    reliability: ReliabilityRules = ReliabilityRules()
    output: OutputConfig = OutputConfig()

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        self.algorithm.resolved_options()
        owners, cohort = self.partition.num_owners, self.training.cohort_size
        if cohort is not None and cohort > owners:
            raise ValueError(f"training.cohort_size is {cohort} and there are {owners} owners; give at most {owners}")
        if self.reliability.is_open and not resolve_algorithm(self.algorithm.name).works_apart:
            raise ValueError(
                f"in {self.algorithm.name} owners depend on one another, so no round can continue without some; leave "
                f"reliability.round_deadline_s and over_selection out, or use fedavg or fedprox"
            )
        if self.cluster.elastic is not None:
            self._fit_for_elastic(self.cluster)
        if self.owners.noisy > owners:
            raise ValueError(
                f"owners.noisy is {self.owners.noisy} and there are {owners} owners; give at most {owners}"
            )
        return self

    def _fit_for_elastic(self, cluster: ClusterOptions) -> None:
        method = resolve_algorithm(self.algorithm.name)
        if not method.comes_and_goes:
            able = [name for name, other in ALGORITHMS.items() if other.comes_and_goes]
            raise ValueError(
                f"{self.algorithm.name} needs all its owners in every round, so it cannot use cluster.elastic; use one "
                f"of {', '.join(able)}, or leave cluster.elastic out"
            )
        if cluster.kind == "ray" and cluster.places == "auto" and cluster.sharing == "auto":
            raise ValueError("an elastic run grows to cluster.places, which is auto; set a number, or sharing: alone")
        if self.reliability.checkpoint_every is None:
            raise ValueError(
                "an elastic run continues from the last checkpoint when owners leave or come back, and "
                "reliability.checkpoint_every is null; set it to 1"
            )
        if self.topology is not None and self.topology.pace:
            raise ValueError(
                "topology.pace is true, and a paced run cannot be elastic; set pace: false or leave elastic out"
            )


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Read and check a YAML file (None: all defaults) with ``a.b=c`` overrides in order. Raises `ConfigError`."""
    return check_config(read_tree(path, overrides))


def check_config(tree: Mapping[str, Any]) -> RunConfig:
    """Check plain data and return the configuration. Raises `ConfigError` with a line per mistake."""
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise explained(error, RunConfig) from None


def dump_config(config: RunConfig) -> str:
    """Write the resolved configuration as YAML, which `load_config` reads."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
