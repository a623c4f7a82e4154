"""The configuration of a run: its sections as pydantic classes, which are checked before the run starts.

Options of models, data sets, partitions and algorithms are keys beside their ``name``, and are checked by the code that
takes them. An option that only other algorithms have is left out with a warning, so that one file serves a comparison;
an option that no algorithm has is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from raysplit.actors.parts.losses import LOSSES
from raysplit.actors.parts.optim import OptimizerSpec, ParameterGroup
from raysplit.actors.steps.rules import ClipRules
from raysplit.algorithms import ALGORITHMS, resolve_algorithm
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.setting import Options, WeightBy
from raysplit.config import checks
from raysplit.config.by_owner.section import with_owners
from raysplit.config.checks import check_ledgers, check_method, check_size, say_left_out, say_unused
from raysplit.config.errors import ConfigError, explained
from raysplit.config.sections import DataConfig, ModelConfig, Named, OutputConfig, OwnersConfig, PartitionConfig
from raysplit.data.batches import LastBatch
from raysplit.experiment.cluster import ClusterOptions
from raysplit.experiment.link_checks import check_links
from raysplit.experiment.links import LinkOptions
from raysplit.experiment.rules import EvaluationRules, ReliabilityRules
from raysplit.experiment.tasks import TaskConfig
from raysplit.experiment.topology import Topology
from raysplit.guards.rules import OFF, PrivacyRules
from raysplit.options import RECORDED, is_recorded, numbers_of
from raysplit.plain_yaml import write
from raysplit.registry import known, one_of
from raysplit.runs.records.damaged import Damaged
from raysplit.runs.records.files import CONFIG
from raysplit.runs.records.read import read_settings
from raysplit.schedulers.learning_rate import SCHEDULES, Per
from raysplit.schedulers.rules import Rules

__all__ = ["ConfigError", "RunConfig", "check_config", "dump_config", "load_config", "load_recorded"]


class AlgorithmConfig(Named):
    """Training algorithm; further keys are its options."""

    name: str = "minibatch_sfl"
    """Name or import path of the algorithm."""

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        resolve_algorithm(value)
        return value

    def foreign_options(self) -> tuple[str, ...]:
        """Return the given options that only other algorithms have, sorted."""
        own = resolve_algorithm(self.name).options_type.model_fields
        others = {key for other in ALGORITHMS.values() for key in other.options_type.model_fields}
        return tuple(sorted(key for key in self.options if key not in own and key in others))

    def resolved_options(self) -> Options:
        """Return the checked options of the algorithm, without options that only other algorithms have."""
        kind, foreign = resolve_algorithm(self.name).options_type, self.foreign_options()
        try:
            return kind(**{key: value for key, value in self.options.items() if key not in foreign})
        except ValidationError as error:
            raise explained(error, kind, self.options, "algorithm") from None


_NEWER_SECTIONS = ("links", "privacy", "task")
"""Sections that run folders of version 0.1 do not have."""


class OptimizerGroup(Rules):
    """Weights with other numbers than the rest."""

    match: str = Field(min_length=1)
    """Pattern over names of weights of the whole model."""
    lr: float | None = Field(default=None, ge=0)
    """Learning rate."""
    weight_decay: float | None = Field(default=None, ge=0)
    """Weight decay."""

    @model_validator(mode="after")
    def _says_something(self) -> OptimizerGroup:
        if self.lr is None and self.weight_decay is None:
            raise ValueError(f"the group {self.match!r} has neither lr nor weight_decay; give one, or leave it out")
        return self


class OptimizerConfig(BaseModel):
    """Optimizer of ``torch.optim``; further keys are its arguments."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    name: str = "sgd"
    """Name of the optimizer in lower case."""
    lr: float = Field(default=0.01, ge=0)
    """Learning rate."""
    groups: tuple[OptimizerGroup, ...] = ()
    """Groups of weights with other numbers: the first whose ``match``, a pattern such as ``head.*`` over the names of
    weights of the whole model, fits a weight gives its ``lr`` and its ``weight_decay``."""

    _numbers = field_validator("*", mode="wrap")(numbers_of)

    def spec(self) -> OptimizerSpec:
        groups = tuple(ParameterGroup(**group.model_dump()) for group in self.groups)
        return OptimizerSpec(name=self.name, lr=self.lr, options=dict(self.model_extra or {}), groups=groups)

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
    local_epochs: int = Field(default=1, ge=1, le=1_000_000)
    """Number of passes over an owner's data per round."""
    max_steps: int | None = Field(default=None, ge=1)
    """Largest number of mini-batches per owner and round; None sets no limit."""
    cohort_size: int | None = Field(default=None, ge=1)
    """Number of owners drawn per round; None takes all."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimizer of the owners' parts."""
    server_optimizer: OptimizerConfig | None = None
    """Optimizer of the compute nodes' parts; None takes ``optimizer``."""
    owner_optimizer_state: Literal["auto", "restart", "keep"] = "auto"
    """Optimizer state of the owners between rounds: ``restart`` clears momentum, ``keep`` keeps it. ``auto`` keeps it
    for methods whose rounds only report (centralised, local, mtsl, mtl_split), and clears it where a round gives owners
    other weights."""
    server_optimizer_state: Literal["restart", "keep"] = "keep"
    """Optimizer state of the compute nodes between rounds: ``restart`` clears momentum, ``keep`` keeps it."""
    accumulate: int = Field(default=1, ge=1)
    """Mini-batches whose gradients make one step: one mean over all their targets. Batches that are left at the end of
    a round are a step of their own."""
    vectorize: int = Field(default=1, ge=1)
    """Most owners of a process whose gradients are computed at once, on stacked models (``torch.vmap``); 1 computes one
    after another. For many small owners with the whole model. Above 1 weights differ from those of 1 by rounding."""
    clip: ClipRules | None = None
    """Clipping of gradients before every step; None leaves them as they are."""
    lr_schedule: str = "constant"
    """Name of the schedule that multiplies every learning rate by a factor per round."""
    lr_schedule_per: Per = "round"
    """What the schedule counts: ``round``, or ``step`` for a factor that changes with every step of the run."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of the run over which every learning rate rises linearly to its value; 0 for none. Steps are those of the
    owner that has most in a round."""
    loss: str = "cross_entropy"
    """Name or import path of the loss."""
    weight_by: WeightBy = "samples"
    """Weights of the owners in averages: ``samples`` counts the training samples of each, ``targets`` the targets that
    its batches of the round have (labels, pixels, tokens or numbers that are not missing)."""
    shuffle: bool = True
    """Shuffle an owner's samples anew for every local epoch."""
    last_batch: LastBatch = "keep"
    """Treatment of an incomplete last mini-batch: ``keep`` trains on it, ``drop`` leaves it out, ``merge`` joins it to
    the one before it. An owner with fewer samples than a batch trains on all of them at once."""
    drop_last: bool = False
    """Former way to write ``last_batch: drop``."""
    buffers: Literal["average", "local"] = "average"
    """Treatment of batch-norm statistics: ``average`` averages them like weights (counters are copied), ``local`` lets
    every owner keep its own."""

    def restarts_owners(self, method: type[Algorithm]) -> bool:
        """Return whether owners forget momentum at the start of each round of a method."""
        state = self.owner_optimizer_state
        return state == "restart" or (state == "auto" and not method.round_is_report)

    @property
    def rule_of_last_batch(self) -> LastBatch:
        """What becomes of an incomplete last mini-batch."""
        return "drop" if self.drop_last else self.last_batch

    @model_validator(mode="after")
    def _one_rule_of_last_batch(self) -> TrainingConfig:
        if self.drop_last and self.last_batch == "merge":
            raise ValueError("drop_last is true and last_batch is merge; leave drop_last out")
        return self

    _known_loss = field_validator("loss")(lambda cls, value: known("loss", value, list(LOSSES)))
    _known = field_validator("lr_schedule")(lambda cls, value: one_of("learning-rate schedule", value, list(SCHEDULES)))


class RunConfig(Rules):
    """Configuration of a run."""

    seed: int = Field(default=0, ge=0)
    """Seed of all random numbers: partition, initial weights, batches, dropout and cohort."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    partition: PartitionConfig = PartitionConfig()
    task: TaskConfig | None = None
    owners: OwnersConfig = OwnersConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationRules = EvaluationRules()
    links: LinkOptions = LinkOptions()
    privacy: PrivacyRules = OFF
    cluster: ClusterOptions = ClusterOptions()
    topology: Topology | None = None
    reliability: ReliabilityRules = ReliabilityRules()
    output: OutputConfig = OutputConfig()

    @model_validator(mode="before")
    @classmethod
    def _owners_of_data(cls, tree: Any) -> Any:
        return with_owners(tree)

    @field_validator("task", mode="before")
    @classmethod
    def _kind_alone(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> RunConfig:
        check_method(self, is_recorded=is_recorded(info))
        check_links(self.links, self.reliability, self.training.batch_size)
        owners, cohort = self.partition.num_owners, self.training.cohort_size
        if cohort is not None and cohort > owners:
            raise ValueError(f"training.cohort_size is {cohort} and there are {owners} owners; give at most {owners}")
        checks.check_elastic(self)
        checks.check_vectorized(self)
        check_ledgers(self)
        if self.links.auto and self.topology is None:
            raise ValueError("links.auto chooses codecs for the links of a topology, and there is none; describe one")
        if self.links.auto and self.cluster.elastic is not None:
            raise ValueError("links.auto plans for nodes that stay, and cluster.elastic moves parts; leave one out")
        if (noisy := self.owners.noisy) > owners:
            raise ValueError(f"owners.noisy is {noisy} and there are {owners} owners; give at most {owners}")
        return self


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Read and check a YAML file (None: all defaults) with ``a.b=c`` overrides in order. Raises `ConfigError`."""
    from raysplit.config.overrides import read_tree  # asks this module which settings hold text

    return check_config(read_tree(path, overrides))


def load_recorded(folder: Path) -> RunConfig:
    """Read the configuration of a run folder. Raises `ConfigError`, and `Damaged` where a part of it is missing.

    The name and the paths were checked when the run began, maybe by an earlier version, and are taken as they are;
    settings that had no effect then, and are refused now, are named in the log.
    """
    from raysplit.config.overrides import read_tree

    tree = read_tree(folder / CONFIG)
    _require_whole(folder, tree)
    return check_config(tree, recorded=True)


def _require_whole(folder: Path, tree: Mapping[str, Any]) -> None:
    """Raise `Damaged` for a recorded configuration that lacks sections, as defaults are not what was trained."""
    written = [name for name in RunConfig.model_fields if name not in _NEWER_SECTIONS]
    if lacking := [name for name in written if name not in tree or tree[name] == {}]:
        raise Damaged(folder / CONFIG, f"a run writes all its settings there, and it lacks {', '.join(lacking)}")
    read_settings(folder)


def check_config(tree: Mapping[str, Any], *, recorded: bool = False) -> RunConfig:
    """Check plain data and return the configuration. Raises `ConfigError` with a line per mistake.

    Args:
        tree: the sections.
        recorded: the data were checked before, so that paths are complete and the name is in use.
    """
    check_size(tree)
    try:
        config = RunConfig.model_validate(tree, context={RECORDED: recorded})
    except ValidationError as error:
        raise explained(error, RunConfig, tree) from None
    if foreign := config.algorithm.foreign_options():
        say_left_out(config.algorithm.name, foreign)
    say_unused(config)
    return config


def resolved(config: RunConfig) -> RunConfig:
    """Return the configuration with all options of its algorithm, as the run folder keeps it."""
    name, options = config.algorithm.name, config.algorithm.resolved_options().model_dump(mode="json")
    restarts = config.training.restarts_owners(resolve_algorithm(name))
    training = config.training.model_copy(update={"owner_optimizer_state": "restart" if restarts else "keep"})
    return config.model_copy(update={"algorithm": AlgorithmConfig(name=name, **options), "training": training})


def dump_config(config: RunConfig) -> str:
    """Write the resolved configuration as YAML, which `load_config` reads."""
    return write(config.model_dump(mode="json"))
