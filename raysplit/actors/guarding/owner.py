"""The half of a `DataOwner` that has a guard; without one it does nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Any

from torch import Tensor

from raysplit.actors.guarding.part import GuardedPart
from raysplit.actors.parts.stage import PartRecipe, Stage
from raysplit.actors.records import OwnerReport, RoundContext
from raysplit.data.batches import LocalTraining
from raysplit.data.samples import Samples
from raysplit.guards.costs import GuardRecipe, Plan
from raysplit.guards.guard import OwnerGuard

GUARD = "guard"
"""The key of the guard in an owner's state."""


class GuardedOwner(ABC):
    """An owner whose guard hears of rounds; the link asks ``guard`` about all that leaves and arrives."""

    name: str
    guard: OwnerGuard | None = None
    _shard: Samples
    _training: LocalTraining

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Copy the weights of the parts."""

    def _get_guard(self, guard: GuardRecipe | None, recipes: tuple[PartRecipe, ...]) -> tuple[PartRecipe, ...]:
        """Build the guard, and return the recipes of the parts, with initial weights of the owners where it says so."""
        if guard is None:
            return recipes
        self.guard = OwnerGuard(guard, self.name, self._shard.y)
        seed = self.guard.init_seed
        if seed is None:
            return recipes
        return tuple(replace(recipe, spec=replace(recipe.spec, seed=seed)) for recipe in recipes)

    def _with_noise(self, stages: list[Stage]) -> list[Stage]:
        """Return the parts, those that need noise with the owner's, the first with the way back through the guard."""
        if self.guard is not None:
            stages[0].through = self.guard.through
            for stage in stages:
                if isinstance(stage.part, GuardedPart):
                    stage.part.noise = self.guard.weight_noise
        return stages

    def _guard_begins(
        self, team: Any, context: RoundContext, state: Mapping[str, Tensor] | None
    ) -> Mapping[str, Tensor] | None:
        """Begin the guard's round; return the weights to start from."""
        if self.guard is None:
            return state
        training, steps = self._training, context.steps(self.name)
        num_samples = len(self._shard)
        plan = Plan(
            num_steps=steps,
            uses=ceil(steps / training.num_batches(num_samples)),
            most_rows=max(training.batch_sizes(num_samples)),
            num_rows=training.num_rows(num_samples, steps),
            per_epoch=training.num_batches(num_samples),
            to=_peers(team),
        )
        self.guard.begin(context, state, plan)
        if self.guard.init_seed is not None and context.round == 0 and state is not None:
            return {**state, **self.weights()}
        return state

    def _guard_ends(self, report: OwnerReport) -> OwnerReport:
        """End the guard's round; return the report as it leaves."""
        if self.guard is None:
            return report
        loss = self.guard.reported(report.loss)
        report = replace(report, loss=0.0, withheld=True) if loss is None else replace(report, loss=loss)
        self.guard.end()
        return report

    def _guard_state(self) -> dict[str, Any]:
        return {} if self.guard is None else {GUARD: self.guard.state_dict()}

    def _load_guard_state(self, state: Mapping[str, Any]) -> None:
        if self.guard is None:
            return
        self.guard.abort()
        if GUARD in state:
            self.guard.load_state_dict(state[GUARD])


def _peers(team: Any) -> tuple[str, ...]:
    """Return the names of the parties that a round may call, without the aggregator."""
    peers = dict.fromkeys(getattr(team, "peers", ()))
    names = [*peers, *(node.name for node in getattr(team, "nodes", ()))]
    return tuple(dict.fromkeys(name for name in names if name != "aggregator"))
