"""What every algorithm is: who is deployed where, the owner's round, the coordinator's round.

An algorithm describes its parties as records, is given their handles, and then runs rounds. The owner's round is a
module-level coroutine ``(owner, team, context)`` that runs at the owner and reads as the paper's pseudo-code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any, ClassVar, Self

import pyarrow as pa
from torch import Tensor

from raysplit.actors.aggregator import Aggregator
from raysplit.actors.compute_node import ComputeNode
from raysplit.actors.data_owner import DataOwner, LocalTraining, Program
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import OwnerReport, RoundContext
from raysplit.actors.verbs import AggregatorHandle, NodeHandle, OwnerHandle, Weights
from raysplit.algorithms.resumable import Resumable
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
from raysplit.cluster.contract import Cluster, Handle, PartySpec, Promise, gather
from raysplit.models.spec import ModelSpec
from raysplit.schedulers.learning_rate import SCHEDULES


class Algorithm(Resumable, ABC):
    """A training method; a new one writes `cuts`, `parties`, `round`, `models`, and the owner's round as its program.

    Made with options alone, ``MyMethod(pull=0.3)``, it says which method is meant, and trains nothing until `bound`
    gives it the setting of a run.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    options_type: ClassVar[type[Options]] = Options
    works_apart: ClassVar[bool] = False
    """Owners do not need one another in a round, so that it can go on without some."""
    lockstep: ClassVar[bool] = False
    """Owners meet at every step, so all take as many steps as the largest data set of the cohort needs."""
    owner_type: ClassVar[type[DataOwner]] = DataOwner
    aggregator_type: ClassVar[type[Aggregator]] = Aggregator
    """The classes of its parties; a subclass may add verbs, and in its ``state_dict`` what else it goes on from."""
    trainings: ClassVar[int] = 1
    """How many trainings follow one another: what a method learns in one it may use in the next."""
    can_be_simulated: ClassVar[bool] = True
    """A round takes the same course whatever the values of tensors, so that it can be acted out with their sizes."""

    def __init__(self, setting: Setting | None = None, options: Options | None = None, **given: Any) -> None:
        super().__init__()
        self.options: Any = self.options_type(**given) if options is None else options
        self.cluster: Cluster | None = None
        if setting is not None:
            self.set_up(setting)

    def set_up(self, setting: Setting) -> None:
        """Take the setting of a run; an algorithm checks here that it fits, and changes what it trains differently.

        Raises ``ValueError`` for a setting that the algorithm cannot train.
        """
        self.setting = setting

    def bound(self, setting: Setting) -> Self:
        """The same method with the same options for a run of this setting, at its beginning."""
        return type(self)(setting, self.options)

    # -- who is deployed where -----------------------------------------------------------------------------------

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """Where the model is cut: nowhere, unless the algorithm says otherwise."""
        return ()

    @abstractmethod
    def parties(self) -> list[PartySpec]:
        """The parties of this algorithm, the owners among them."""

    def attach(self, handles: Mapping[str, Handle], cluster: Cluster | None = None) -> None:
        """Take the handles of the deployed parties, and the cluster for parties that come later."""
        self.handles = dict(handles)
        self.cluster = cluster

    @property
    def routes(self) -> tuple[Route, ...]:
        """The different ways through compute nodes that owners' batches take; none where no part is routed."""
        return ()

    @property
    def on_offer(self) -> tuple[str, ...]:
        """The compute nodes among which parts may move between rounds; none where they stay."""
        return ()

    def take_route(self, route: Route) -> None:
        """Have all owners go this way from the next round end on; asked only of an algorithm with nodes on offer."""
        raise NotImplementedError(f"{self.title} has compute nodes on offer and does not say how its parts move")

    def learners(self) -> Sequence[PartRecipe]:
        """Models that every owner builds beside its parts later in the run, for the memory estimate."""
        return ()

    def owner(self, name: str) -> OwnerHandle:
        """The handle of a data owner."""
        return self.handles[name]

    def node(self, name: str = SERVER) -> NodeHandle:
        """The handle of a compute node."""
        return self.handles[name]

    def aggregator(self, name: str = AGGREGATOR) -> AggregatorHandle:
        """The handle of an aggregator."""
        return self.handles[name]

    def peers(self, *names: str) -> dict[str, Handle]:
        """The handles of these parties by name, for a `Team`."""
        return {name: self.handles[name] for name in names}

    def recipe(self, index: int, **changes: Any) -> PartRecipe:
        """The recipe of one part; part 0 is trained with the owners' optimiser, others with the server's."""
        setting = self.setting
        recipe = PartRecipe(
            spec=setting.spec,
            cuts=self.cuts,
            index=index,
            optimizer=setting.optimizer if index == 0 else setting.server_optimizer,
            seed=setting.seed,
            buffers=setting.buffers,
            device=setting.device,
        )
        return replace(recipe, **changes)

    def owner_parties(self, *recipes: PartRecipe) -> list[PartySpec]:
        """Every owner with its shard and these parts."""
        return [self.owner_party(name, *recipes) for name in self.setting.owners]

    def owner_party(self, name: str, *recipes: PartRecipe) -> PartySpec:
        """One owner with its shard and these parts."""
        data = self.setting.owners[name]
        return PartySpec(
            name=name,
            role="owner",
            build=self.owner_type,
            arguments={
                "shard": data.shard,
                "test": data.test,
                "transform": data.transform,
                "eval_transform": data.eval_transform,
                "recipes": recipes,
                "training": self.local_training(name),
            },
        )

    def node_party(self, name: str, recipe: PartRecipe, **arguments: Any) -> PartySpec:
        return PartySpec(
            name=name,
            role="node",
            build=ComputeNode,
            arguments={
                "recipe": recipe,
                "loss": self.setting.training.loss,
                "rules": self.setting.updates,
                **arguments,
            },
        )

    def aggregator_party(self, *indices: int, **arguments: Any) -> PartySpec:
        """The aggregator of these parts, holding their initial weights; ``arguments`` are what else its class takes."""
        parts = self.setting.spec.parts(self.cuts)
        state: dict[str, Tensor] = {k: v for index in indices for k, v in parts[index].state_dict().items()}
        return PartySpec(
            name=AGGREGATOR,
            role="aggregator",
            build=self.aggregator_type,
            arguments={"state": state, "rules": self.setting.updates, **arguments},
        )

    def local_training(self, owner: str) -> LocalTraining:
        return self.setting.training

    # -- a round -------------------------------------------------------------------------------------------------

    @property
    def num_rounds(self) -> int:
        """Rounds of the whole run; asked again after each, so that a method may end early."""
        return self.trainings * self.setting.rounds

    def lr_scale(self, round: int) -> float:
        """The schedule's factor on every learning rate in this round."""
        return SCHEDULES[self.setting.lr_schedule](round, self.setting.rounds)

    def available(self, round: int) -> list[str]:
        """The owners from which the cohort of a round is drawn, in owner order."""
        return list(self.setting.owners)

    def context(self, round: int, cohort: Sequence[str], *, lr_scale: float = 1.0, attempt: int = 0) -> RoundContext:
        """The context of a round: weights by data size, steps by data size or, in lock-step, by the largest."""
        sizes = [self.setting.num_samples(name) for name in cohort]
        steps = [self.num_steps(name) for name in cohort]
        if self.lockstep:
            steps = [max(steps)] * len(steps)
        return RoundContext(
            round=round,
            cohort=tuple(cohort),
            weights=tuple(size / sum(sizes) for size in sizes),
            num_steps=tuple(steps),
            lr_scale=lr_scale,
            attempt=attempt,
        )

    def num_steps(self, owner: str) -> int:
        """Mini-batches of one owner in a round of its own: local epochs times batches per epoch."""
        training = self.local_training(owner)
        batches = self.setting.num_samples(owner) / training.batch_size
        per_epoch = max(1, int(batches)) if training.drop_last else ceil(batches)
        steps = self.setting.local_epochs * per_epoch
        return min(steps, self.setting.max_steps) if self.setting.max_steps else steps

    @abstractmethod
    async def round(self, context: RoundContext) -> RoundReport:
        """The coordinator's round."""

    async def run_owners(
        self,
        program: Program,
        team: Team | Mapping[str, Team],
        context: RoundContext,
        state: Promise[Weights] | None = None,
    ) -> tuple[OwnerReport, ...]:
        """All owners of the cohort run the program side by side, starting from the promised state.

        ``team`` is one for all, or one for each owner by name.
        """
        teams = dict.fromkeys(context.cohort, team) if isinstance(team, Team) else team
        runs = [self.owner(name).run_round(program, teams[name], context, state) for name in context.cohort]
        return tuple(await gather(*runs))

    # -- what came of it -----------------------------------------------------------------------------------------

    @abstractmethod
    def models(self) -> dict[str, list[Promise[Weights]]]:
        """The models to evaluate and export: promises of the states whose union is a whole model, by label.

        One entry ``"global"`` for methods that train one model; one per owner for methods that train many.
        """

    def chosen(self) -> Mapping[str, Mapping[str, Tensor]]:
        """The models to keep, by label, where a method prefers an earlier state to that of the last evaluation."""
        return {}

    def spec_of(self, label: str) -> ModelSpec:
        """What the states of this entry of `models` are weights of."""
        return self.setting.spec

    def tables(self) -> Mapping[str, pa.Table]:
        """Tables for the folder of the run, by file name."""
        return {}

    def summary(self) -> dict[str, Any]:
        """What else the run's summary should tell."""
        return {}
