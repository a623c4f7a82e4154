"""The records that algorithms receive and return: options, the setting of a run, the team of a round, its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import nan
from typing import Literal

from raysplit.actors.aggregation import UpdateRules
from raysplit.actors.guarding.part import PartGuards
from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.actors.parts.part import BufferPolicy
from raysplit.actors.parts.stage import PartRecipe, has_trained
from raysplit.actors.records import OwnerReport
from raysplit.actors.steps.rules import ClipRules, Precision
from raysplit.actors.verbs import AggregatorHandle, NodeHandle
from raysplit.cluster.contract import Handle, PartySpec
from raysplit.data.batches import LocalTraining
from raysplit.data.samples import Samples
from raysplit.data.transforms import Transform
from raysplit.guards.costs import GuardRecipe
from raysplit.guards.noise.labels import FlippedCrossEntropy
from raysplit.guards.rules import OFF, PrivacyRules
from raysplit.models.spec import ModelSpec
from raysplit.schedulers.cohort import CohortRules
from raysplit.schedulers.learning_rate import Per
from raysplit.schedulers.rules import Rules
from raysplit.tasks import Task

Cut = int | str
AGGREGATOR = "aggregator"
SERVER = "server"
WeightBy = Literal["samples", "targets"]
"""What an owner's weight in averages is proportional to."""
AUTO = "auto"
"""The cut that stands for the first one at which the inputs stay at their owner."""


class Options(Rules):
    """Base class of the options that an algorithm adds to the configuration.

    A subclass is a pydantic model: one annotated field for each option, its meaning in the string below it. Unknown
    options and invalid values raise pydantic's ``ValidationError``, which the command line shows with the key.

    Example:
        >>> class MyOptions(raysplit.Options):
        ...     pull: float = 0.1
        ...     "Weight of the pull towards the mean."
        >>> MyOptions(pull=0.3).pull
        0.3
    """

    def idle(self) -> dict[str, str]:
        """Return the given options that have no effect beside the others, by name, each with the reason.

        The command line warns of them. Override it where one option decides whether another one is read.
        """
        return {}

    @property
    def joins_rows(self) -> bool:
        """Whether one forward pass joins rows of several owners, so that their batches need one length."""
        return getattr(self, "server_forward", "grad_avg") != "grad_avg"

    def changed(self, *names: str) -> list[str]:
        """Return those of these options that differ from their defaults."""
        fields = type(self).model_fields
        return [name for name in names if getattr(self, name) != fields[name].get_default(call_default_factory=True)]


class SplitOptions(Options):
    """Options of methods that cut the model once."""

    cut: int | str = AUTO
    """Number of units that the owner keeps (the model's number of units gives the server none), or the name of the
    module after which to cut. ``auto`` is the first number from 1 on with which the inputs stay at the owner."""


def placed(cut: Cut, spec: ModelSpec) -> Cut:
    """Replace ``auto`` by the first cut at which the model's inputs stay at their owner; by 1 where there is none."""
    first = spec.first_private_cut() if cut == AUTO else cut
    return 1 if first is None else first


@dataclass(frozen=True, kw_only=True)
class OwnerData:
    """The data of one owner.

    Attributes:
        shard: its training samples.
        test: its own test samples, on which models of its own are evaluated; None where there are none, or where it is
            not known which they are.
        transform: transform of training batches.
        eval_transform: transform of test batches.
        tasks: names of the tasks that it learns, where samples have several targets; None for all.
    """

    shard: Samples
    test: Samples | None = None
    transform: Transform
    eval_transform: Transform
    tasks: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The setting of a run, which all algorithms share: the model, the owners' data, and the training rules.

    Attributes:
        spec: the whole model.
        owners: the data of each owner by name, in owner order; sums run in this order.
        training: rules by which owners go through their data.
        optimizer: optimizer of the owners' parts.
        server_optimizer: optimizer of the compute nodes' parts.
        restart_server_optimizer: whether nodes forget momentum at the start of each round; ``training`` has the
            owners' switch.
        local_epochs: passes over an owner's data per round.
        max_steps: upper limit on an owner's mini-batches per round; None sets no limit.
        buffers: ``average`` treats batch-norm statistics like weights; ``local`` leaves them at their owners.
        seed: seed from which all random streams are derived.
        device: torch device of all parts, ``cpu`` or ``cuda``.
        evaluators: parties that hold everybody's test samples, and know whose they are where the data say so.
        tests_at_owners: whether the owners test a model of all owners, each on samples that no evaluator holds, and the
            result is the sum.
        validators: parties that hold validation samples, on which a method may base decisions.
        own_validators: parties that hold what owners set aside, each owner's samples by themselves.
        rounds: rounds of one training.
        lr_schedule: name in `raysplit.schedulers.learning_rate.SCHEDULES`.
        lr_schedule_per: whether the schedule counts rounds or steps.
        warmup_steps: steps of the run over which learning rates rise linearly from near 0; 0 for none.
        clip: clipping of gradients; None leaves them as they are.
        vectorize: most owners of a process that are computed at once.
        precision: number type of forward passes in training.
        recompute: whether parts keep only their inputs between forward and backward.
        updates: rules that refuse updates and combine the accepted ones.
        cohort: rules for how long a round waits and for whom.
        cohort_size: owners drawn per round; None takes all.
        weight_by: what owners' weights in averages are proportional to.
        links_keep_state: whether codecs or guards keep something at owners and nodes between rounds, so that all are
            durable.
        privacy: guards at the owners.
        ledgers: folder of the owners' ledgers; None keeps them in memory alone.
        digest: digest of the settings that the numbers of the run depend on, which guards draw by.
        init: where the initial weights of the owners' parts come from: the ``seed`` of the run, or the ``owners``.
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
    tests_at_owners: bool = False
    validators: tuple[PartySpec, ...] = ()
    own_validators: tuple[PartySpec, ...] = ()
    rounds: int = 1
    lr_schedule: str = "constant"
    lr_schedule_per: Per = "round"
    warmup_steps: int = 0
    clip: ClipRules | None = None
    vectorize: int = 1
    precision: Precision = "full"
    recompute: bool = False
    updates: UpdateRules = field(default_factory=UpdateRules)
    cohort: CohortRules = field(default_factory=CohortRules)
    cohort_size: int | None = None
    weight_by: WeightBy = "samples"
    links_keep_state: bool = False
    privacy: PrivacyRules = OFF
    ledgers: str | None = None
    digest: str = ""
    init: Literal["seed", "owners"] = "seed"

    def on(self, device: str) -> Setting:
        """Return this setting with all computation on another torch device, evaluation too."""

        def moved(parties: tuple[PartySpec, ...]) -> tuple[PartySpec, ...]:
            return tuple(replace(party, arguments={**party.arguments, "device": device}) for party in parties)

        if device == self.device:
            return self
        return replace(
            self,
            device=device,
            evaluators=moved(self.evaluators),
            validators=moved(self.validators),
            own_validators=moved(self.own_validators),
        )

    @property
    def task(self) -> Task | None:
        """The task of the run; None where samples have a target for each of several tasks, or the loss is a name."""
        return self.training.loss if isinstance(self.training.loss, Task) else None

    @property
    def node_loss(self) -> str | Task | FlippedCrossEntropy:
        """The loss at compute nodes, which know how the labels that they get were flipped."""
        labels = self.privacy.labels
        if labels is None or not labels.corrected:
            return self.training.loss
        return FlippedCrossEntropy(epsilon=labels.epsilon, num_classes=self.spec.num_classes)

    @property
    def is_guarded(self) -> bool:
        """Whether owners have guards."""
        return self.privacy.is_on or self.init == "owners"

    def guard_of(self, recipes: tuple[PartRecipe, ...]) -> GuardRecipe | None:
        """Return what the guard of an owner with these parts is made from; None where nothing is guarded."""
        if not self.is_guarded:
            return None
        return GuardRecipe(
            rules=self.privacy,
            seed=self.seed,
            run=self.digest,
            folder=self.ledgers,
            num_classes=self.spec.num_classes,
            sends_smashed=bool(recipes[0].cuts),
            sends_labels=bool(recipes[0].cuts) and len(recipes) == 1,
            sends_gradients=len(recipes) > 1,
            num_trained=sum(map(has_trained, recipes)),
            init_by_owners=self.init == "owners",
        )

    def guarded(self, recipe: PartRecipe, *, is_first: bool) -> PartRecipe:
        """Return the recipe of an owner's part with what its guard asks of it."""
        rules = self.privacy
        nopeek = rules.nopeek if is_first else 0.0
        if rules.weights is None and not nopeek:
            return recipe
        return replace(recipe, guards=PartGuards(weights=rules.weights, nopeek=nopeek))

    def num_samples(self, owner: str) -> int:
        """The number of training samples of an owner."""
        return len(self.owners[owner].shard)


@dataclass(frozen=True, kw_only=True)
class Team:
    """The handles that an owner's round may call.

    Attributes:
        peers: handles by the name of the party. Annotate one with a protocol of `raysplit.actors.verbs`, or with that
            of your own party class, to have mypy check its verbs.
        nodes: compute nodes in the order of their parts, for models that are cut more than once.
    """

    peers: Mapping[str, Handle] = field(default_factory=dict)
    nodes: tuple[NodeHandle, ...] = ()

    @property
    def aggregator(self) -> AggregatorHandle:
        """The peer named ``"aggregator"``."""
        return self.peers[AGGREGATOR]

    @property
    def server(self) -> NodeHandle:
        """The peer named ``"server"``."""
        return self.peers[SERVER]


@dataclass(frozen=True, kw_only=True)
class RoundReport:
    """The result of a round, as the coordinator returns it.

    Attributes:
        owners: the reports of the owners that took part, in owner order.
        server_steps: optimizer steps of the server's part in this round.
        values: further numbers, which become columns of the run's metrics.
    """

    owners: tuple[OwnerReport, ...]
    server_steps: int = 0
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def num_samples(self) -> int:
        """The number of samples trained on, counting a sample once for each epoch."""
        return sum(report.num_samples for report in self.owners)

    @property
    def told_by(self) -> tuple[str, ...]:
        """Names of the parties, other than the owners, that computed the losses."""
        return tuple(sorted({name for report in self.owners for name in report.told_by}))

    @property
    def loss(self) -> float:
        """The mean training loss over these samples; NaN where no owner tells it."""
        if self.owners and all(report.withheld for report in self.owners):
            return nan
        return sum(r.loss * r.num_samples for r in self.owners) / max(1, self.num_samples)
