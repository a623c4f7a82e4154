"""What algorithms are given and give back: options, the setting of a run, the handles of a round, its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from raysplit.actors.aggregation import UpdateRules
from raysplit.actors.data_owner import LocalTraining
from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.actors.parts.part import BufferPolicy
from raysplit.actors.records import OwnerReport
from raysplit.actors.verbs import AggregatorHandle, NodeHandle
from raysplit.cluster.contract import Handle, PartySpec
from raysplit.data.samples import Samples
from raysplit.data.transforms import Transform
from raysplit.models.spec import ModelSpec
from raysplit.schedulers.cohort import CohortRules
from raysplit.schedulers.rules import Rules

Cut = int | str
AGGREGATOR = "aggregator"
SERVER = "server"


class Options(Rules):
    """Base of the options that an algorithm adds to the configuration."""


class SplitOptions(Options):
    """The model is cut once."""

    cut: int | str = 1
    """Counts the model's units (0 leaves the owner nothing, the number of units leaves the server nothing) or names the
    module after which to cut."""


@dataclass(frozen=True, kw_only=True)
class OwnerData:
    """What one owner holds."""

    shard: Samples
    test: Samples | None = None
    transform: Transform
    eval_transform: Transform


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything that algorithms share: model, owners' data, and training rules.

    Attributes:
        owners: by name, in owner order; sums run in this order.
        optimizer: of owners' parts; ``server_optimizer`` of compute nodes' parts.
        restart_owner_optimizer, restart_server_optimizer: forget momentum at the start of each round.
        local_epochs: passes over an owner's data per round.
        max_steps: at most so many mini-batches per owner and round.
        rounds, lr_schedule: of one training, see `raysplit.schedulers.learning_rate`.
        updates: which updates are taken, and how they become one.
        cohort: for whom a round waits; ``cohort_size``: how many owners are wanted in one, None wants all.
        validators: evaluators of samples that decisions may look at, which the test set is not for.
    """

    spec: ModelSpec
    owners: Mapping[str, OwnerData]
    training: LocalTraining = field(default_factory=LocalTraining)
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    server_optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    restart_server_optimizer: bool = False
    local_epochs: int = 1
    max_steps: int | None = None
    buffers: BufferPolicy = "average"
    seed: int = 0
    device: str = "cpu"
    evaluators: tuple[PartySpec, ...] = ()
    validators: tuple[PartySpec, ...] = ()
    rounds: int = 1
    lr_schedule: str = "constant"
    updates: UpdateRules = field(default_factory=UpdateRules)
    cohort: CohortRules = field(default_factory=CohortRules)
    cohort_size: int | None = None

    def num_samples(self, owner: str) -> int:
        return len(self.owners[owner].shard)


@dataclass(frozen=True, kw_only=True)
class Team:
    """The handles an owner's round may call.

    Attributes:
        peers: by name; of a party with verbs of its own, annotate the handle with their protocol.
        nodes: the compute nodes in the order of their parts, where there are several.
    """

    peers: Mapping[str, Handle] = field(default_factory=dict)
    nodes: tuple[NodeHandle, ...] = ()

    @property
    def aggregator(self) -> AggregatorHandle:
        return self.peers[AGGREGATOR]

    @property
    def server(self) -> NodeHandle:
        return self.peers[SERVER]


@dataclass(frozen=True, kw_only=True)
class RoundReport:
    """What the coordinator knows after a round."""

    owners: tuple[OwnerReport, ...]
    server_steps: int = 0
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def num_samples(self) -> int:
        return sum(report.num_samples for report in self.owners)

    @property
    def loss(self) -> float:
        """Mean over the samples that were trained on."""
        return sum(r.loss * r.num_samples for r in self.owners) / max(1, self.num_samples)
