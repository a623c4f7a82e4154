"""The base class of training methods: who is deployed, the coordinator's round, and the resulting models.

An algorithm describes its parties as records, receives their handles, and then runs rounds. The owner's round is a
module-level coroutine ``(owner, team, context)`` that runs at the owner and reads as the paper's pseudo-code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from torch import Tensor

from raysplit.actors.data_owner import Program
from raysplit.actors.records import OwnerReport, RoundContext
from raysplit.actors.verbs import Weights
from raysplit.algorithms.deployment import Deployment
from raysplit.algorithms.route import Route
from raysplit.algorithms.setting import AGGREGATOR as AGGREGATOR
from raysplit.algorithms.setting import SERVER as SERVER
from raysplit.algorithms.setting import Cut as Cut
from raysplit.algorithms.setting import Options as Options
from raysplit.algorithms.setting import OwnerData as OwnerData
from raysplit.algorithms.setting import RoundReport as RoundReport
from raysplit.algorithms.setting import Setting as Setting
from raysplit.algorithms.setting import SplitOptions as SplitOptions
from raysplit.algorithms.setting import Team as Team
from raysplit.algorithms.unused import RunOutline as RunOutline
from raysplit.algorithms.unused import refuse_too_few
from raysplit.cluster.contract import Cluster, PartySpec, Promise, answered_together, gather
from raysplit.models.spec import ModelSpec
from raysplit.schedulers.cohort import choose_cohort
from raysplit.schedulers.learning_rate import SCHEDULES
from raysplit.seeding import generator


class Algorithm(Deployment, ABC):
    """A training method. A new one implements `parties`, `round`, `models`, and `cuts` where it cuts the model.

    ``MyMethod(pull=0.3)`` holds options only and cannot train; `bound` returns a copy for the setting of a run.

    Args:
        setting: model, owners' data and training rules of a run; None for a method that is not bound yet.
        options: a record of `options_type`, instead of ``given``.
        given: the options by name. Raises pydantic's ``ValidationError`` for unknown names and invalid values.

    Example: federated averaging of the whole model::

        async def train_and_submit(owner: DataOwner, team: Team, context: RoundContext) -> None:
            for step_id, batch in owner.batches(context):
                await owner.train_batch(step_id, batch)
            await team.aggregator.submit(context, owner.name, owner.weights())

        class MyMethod(Algorithm):
            name, title = "my_method", "My method"

            def parties(self):
                return [*self.owner_parties(self.recipe(0)), self.aggregator_party(0)]

            async def round(self, context):
                aggregator = self.aggregator()
                await aggregator.begin(context)
                team = Team(peers=self.peers("aggregator"))
                return RoundReport(owners=await self.run_owners(train_and_submit, team, context, aggregator.current()))

            def models(self):
                return {"global": [self.aggregator().current()]}
    """

    name: ClassVar[str]
    """The name in a configuration file."""
    title: ClassVar[str]
    """The name in reports and progress lines."""
    options_type: ClassVar[type[Options]] = Options
    """The record of the method's own settings."""
    works_apart: ClassVar[bool] = False
    """Whether owners work independently within a round, so that it can continue without some of them."""
    vectorizes: ClassVar[bool] = False
    """Whether owners train whole models without waiting for one another, so that several can be computed at once."""
    lockstep: ClassVar[bool] = False
    """Whether owners meet at every step; then each takes as many steps as the largest data set of the cohort needs."""
    trainings: ClassVar[int] = 1
    """The number of trainings of `Setting.rounds` rounds each that follow one another in a run."""
    reports_validation: ClassVar[bool] = False
    """Whether every round reports ``val_loss`` by itself, on validation samples of the data."""
    round_is_report: ClassVar[bool] = False
    """Whether a round only reports: owners continue from their own weights, which nothing replaces at its end. Owners
    then keep their optimizers' states unless the configuration says otherwise."""
    unused: ClassVar[Mapping[str, str]] = {}
    """Settings of other sections that have no effect with this method, by key (``training.server_optimizer``), each
    with the reason; a run that sets one is refused. See `raysplit.algorithms.unused`."""
    losses: ClassVar[tuple[str, ...]] = ()
    """The losses that the method can train with; empty for any."""
    sends_gradients: ClassVar[bool] = False
    """Whether owners hold the last part too, and send gradients of smashed data."""
    clips_models: ClassVar[bool] = False
    """Whether the parts of a model exchange the norms of their gradients, so that they can be clipped as one. Where the
    owners hold the whole model, nothing needs to be exchanged."""
    keeps_both_ends: ClassVar[bool] = False
    """Whether the first and the last part of the model are the owner's, which may then have tied weights in both."""
    can_be_simulated: ClassVar[bool] = True
    """Whether a round runs the same calls whatever the tensors' values, so that sizes suffice to simulate it."""

    def __init__(self, setting: Setting | None = None, options: Options | None = None, **given: Any) -> None:
        super().__init__()
        self.options: Any = self.options_type(**given) if options is None else options
        self.cluster: Cluster | None = None
        if setting is not None:
            self.set_up(setting)

    @classmethod
    def check(cls, options: Any, outline: RunOutline) -> None:
        """Check options against what the configuration alone says of a run, before data are read.

        Override it for further rules, and call this one first.

        Raises:
            ValueError: for a run that this method cannot train.
        """
        refuse_too_few(outline)

    def set_up(self, setting: Setting) -> None:
        """Store the setting of a run. Override to check it, or to change what this method trains.

        Raises:
            ValueError: for a setting that the algorithm cannot train.
        """
        self.setting = setting

    def bound(self, setting: Setting) -> Self:
        """Return a new instance with the same options for a run of this setting. Raises as `set_up`."""
        return type(self)(setting, self.options)

    # -- who is deployed where -----------------------------------------------------------------------------------

    @abstractmethod
    def parties(self) -> list[PartySpec]:
        """Describe all parties to deploy; `owner_parties`, `node_party` and `aggregator_party` build the records."""

    @property
    def routes(self) -> tuple[Route, ...]:
        """The distinct routes of owners' batches through compute nodes; empty where no part is routed."""
        return ()

    @property
    def on_offer(self) -> tuple[str, ...]:
        """Names of the compute nodes among which parts may move between rounds; empty where parts stay."""
        return ()

    def take_route(self, route: Route) -> None:
        """Move all owners to this route at the next round end; only for algorithms with nodes `on_offer`."""
        raise NotImplementedError(
            f"{self.title} lists compute nodes in on_offer, but its class does not say how parts move; implement "
            f"take_route, or leave on_offer out"
        )

    def kind_of(self, owner: str) -> Hashable:
        """Return what tells the owner's round from those of others that have as many samples and the same machine.

        The compiled simulator records the rounds of two owners of each kind for all of them. By default every owner is
        a kind of its own, because nothing is known of the program. Not inherited by methods of your own: a subclass
        that overrides it promises that its coordinator and its nodes call owners of one kind alike.
        """
        return owner

    # -- a round -------------------------------------------------------------------------------------------------

    @property
    def num_rounds(self) -> int:
        """The number of rounds of the whole run; read again after each round, so that a method may end early."""
        return self.trainings * self.setting.rounds

    def lr_scale(self, round: int) -> float:
        """The schedule's factor on every learning rate in this round, counted from 0."""
        if self.setting.lr_schedule_per == "step":
            return 1.0
        return SCHEDULES[self.setting.lr_schedule](round, self.setting.rounds)

    def available(self, round: int) -> list[str]:
        """Names of the owners from which the cohort of a round is drawn, in owner order."""
        return list(self.setting.owners)

    def drawn(self, round: int, owners: Sequence[str]) -> tuple[str, ...]:
        """Draw the cohort of a round among the owners that may take part, in owner order."""
        rules, size = self.setting.cohort, self.setting.cohort_size
        rng = generator(self.setting.seed, "round", round, "cohort")
        return choose_cohort(owners, rules.num_drawn(len(owners), size), rng)

    def context(self, round: int, cohort: Sequence[str], *, lr_scale: float = 1.0, attempt: int = 0) -> RoundContext:
        """Build the instruction of a round: averaging weights and numbers of steps, both by data size.

        With `lockstep` every owner takes as many steps as the one with most.
        """
        sizes = [self.setting.num_samples(name) for name in cohort]
        total = sum(sizes)
        steps = [self.num_steps(name) for name in cohort]
        if self.lockstep:
            steps = [max(steps)] * len(steps)
        return RoundContext(
            round=round,
            cohort=tuple(cohort),
            weights=tuple(size / total for size in sizes),
            num_steps=tuple(steps),
            lr_scale=lr_scale,
            attempt=attempt,
            numbers=self._numbers(cohort),
        )

    def _numbers(self, cohort: Sequence[str]) -> tuple[int, ...]:
        """Return the numbers of owners among all owners; empty for all of them, which are in their order."""
        owners = self.setting.owners
        if len(cohort) == len(owners):
            return ()
        wanted = set(cohort)
        found = {name: number for number, name in enumerate(owners) if name in wanted}
        return tuple(found[name] for name in cohort)

    async def weighted(self, context: RoundContext) -> RoundContext:
        """Return the instruction with the weights that `Setting.weight_by` asks for; by samples they are there."""
        if self.setting.weight_by == "samples":
            return context
        counts = await gather(*[self.owner(name).num_targets(context) for name in context.cohort])
        total = sum(counts)
        return replace(context, weights=tuple(count / total for count in counts)) if total else context

    def num_steps(self, owner: str) -> int:
        """Mini-batches of an owner in a round: local epochs times batches per epoch, at most ``max_steps``."""
        per_epoch = self.local_training(owner).num_batches(self.setting.num_samples(owner))
        steps = self.setting.local_epochs * per_epoch
        return min(steps, self.setting.max_steps) if self.setting.max_steps else steps

    @abstractmethod
    async def round(self, context: RoundContext) -> RoundReport:
        """Run the coordinator's side of one round and return its report. It may be repeated after a lost place."""

    async def run_owners(
        self,
        program: Program,
        team: Team | Mapping[str, Team],
        context: RoundContext,
        state: Promise[Weights] | None = None,
    ) -> tuple[OwnerReport, ...]:
        """Run the owner's round at all owners of the cohort concurrently.

        Args:
            program: a module-level coroutine ``(owner, team, context)``, or a `functools.partial` of one.
            team: the handles that it may call, one `Team` for all or one for each owner by name.
            state: a promise of the weights to start from; None starts from those that each owner has.

        Returns:
            The reports, in the order of the cohort.
        """
        teams = dict.fromkeys(context.cohort, team) if isinstance(team, Team) else team
        with answered_together():
            runs = [self.owner(name).run_round(program, teams[name], context, state) for name in context.cohort]
        return tuple(await gather(*runs))

    # -- results -------------------------------------------------------------------------------------------------

    @abstractmethod
    def models(self) -> dict[str, list[Promise[Weights]]]:
        """Promise the models to evaluate and export, by label; the union of a label's states is a whole model.

        Methods that train one model use the single label ``"global"``, methods that train many one for each owner; see
        `owners_of`.
        """

    def chosen(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Whole states to keep instead of the last evaluated ones, by label; empty by default."""
        return {}

    def spec_of(self, label: str) -> ModelSpec:
        """The model that the states of this label of `models` belong to."""
        return self.setting.spec

    def owners_of(self, label: str) -> Sequence[str]:
        """Names of the owners whose model this label of `models` is, in owner order.

        A model of all owners is evaluated on everybody's test samples, any other on the own test samples of its owners,
        where it is known whose they are. By default, a label that is an owner's name is the model of that owner, and
        every other label is a model of all.
        """
        return (label,) if label in self.setting.owners else tuple(self.setting.owners)

    def tables(self) -> Mapping[str, Any]:
        """Tables to write into the folder of the run, by file name."""
        return {}

    def summary(self) -> dict[str, Any]:
        """Further entries of the run's summary, as plain values."""
        return {}
