"""Learning rates of the shared top and of the bottoms, fixed or from measured curvature (arXiv 2406.00150)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat

from raysplit.actors.records import RoundContext
from raysplit.actors.verbs import NodeHandle, OwnerHandle
from raysplit.algorithms.mtsl.curvature import CurvatureHandle, measure_bottom
from raysplit.algorithms.setting import SERVER, Options, Team
from raysplit.cluster.contract import Handle, gather
from raysplit.schedulers.curvature_rates import Curvature, block_rates

logger = logging.getLogger(__name__)

Reduction = Literal["mean", "sum"]


class FixedRates(Options):
    """Fixed learning rates; where one is left out, the optimizer's rate applies."""

    server: NonNegativeFloat | None = None
    """Learning rate of the shared top."""
    owners: NonNegativeFloat | tuple[NonNegativeFloat, ...] | dict[str, NonNegativeFloat] | None = None
    """Learning rates of the bottoms: one for all, a list in owner order, or keys and values by owner."""

    def of_server(self, default: float) -> float:
        return default if self.server is None else self.server

    def of_owners(self, names: Sequence[str], default: float) -> dict[str, float]:
        """Return the rates by owner. Raises ``ValueError`` for a list of another length and for an unknown owner."""
        if self.owners is None or isinstance(self.owners, int | float):
            return dict.fromkeys(names, default if self.owners is None else self.owners)
        if isinstance(self.owners, tuple):
            if len(self.owners) != len(names):
                raise ValueError(
                    f"learning_rates.owners has {len(self.owners)} rates for {len(names)} owners; give one for each "
                    f"owner, or a single number for all"
                )
            return dict(zip(names, self.owners, strict=True))
        if strangers := self.owners.keys() - set(names):
            raise ValueError(
                f"learning_rates.owners names {sorted(strangers)[0]!r}, which is not an owner; the owners are "
                f"{names[0]} to {names[-1]}"
            )
        return dict.fromkeys(names, default) | self.owners


class AutoRates(Options):
    """Learning rates from curvature that is measured during training."""

    every: int = Field(default=100, ge=1)
    """Steps between two measurements; the largest values so far determine the rates."""
    iterations: int = Field(default=10, ge=1)
    """Power iterations per measurement and block of the Hessian."""


class MeasuredRates:
    """The measured rates of a run: measures curvature when due, keeps the largest values, and sets the rates."""

    def __init__(self, auto: AutoRates, *, reduction: Reduction, seed: int) -> None:
        self._auto = auto
        self._reduction = reduction
        self._seed = seed
        self.seen: Curvature | None = None
        self._steps_since = 0

    async def refresh(self, handles: Mapping[str, Handle], context: RoundContext) -> dict[str, float]:
        """Set the learning rates of all parties for this round, and return them for the metrics.

        Curvature is measured first, on the round's first batches, if it is due or the cohort has a new owner.
        """
        seen = self.seen
        is_due = seen is None or self._steps_since >= self._auto.every or not set(context.cohort) <= seen.owners.keys()
        if is_due:
            seen = await self._measure(handles, context)
        assert seen is not None
        self._steps_since += max(context.num_steps)
        rates = block_rates(seen)
        server = rates.server if self._reduction == "sum" else rates.server_on_mean(len(context.cohort))
        top: NodeHandle = handles[SERVER]
        owners: dict[str, OwnerHandle] = {name: handles[name] for name in context.cohort}
        await gather(
            top.set_learning_rate(server),
            *[owner.set_learning_rate(rates.owners[name]) for name, owner in owners.items()],
        )
        present = [rates.owners[name] for name in context.cohort]
        return {"server_rate": server, "owner_rate_min": min(present), "owner_rate_max": max(present)}

    def state_dict(self) -> dict[str, Any]:
        """Return the largest curvature so far, and the steps since the last measurement."""
        return {"seen": asdict(self.seen) if self.seen else None, "steps since": self._steps_since}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`."""
        self.seen = Curvature(**state["seen"]) if state["seen"] else None
        self._steps_since = state["steps since"]

    async def _measure(self, handles: Mapping[str, Handle], context: RoundContext) -> Curvature:
        program = partial(measure_bottom, num_iterations=self._auto.iterations, seed=self._seed)
        once = replace(context, num_steps=(1,) * len(context.cohort))
        team = Team(peers={SERVER: handles[SERVER]})
        owners: list[OwnerHandle] = [handles[name] for name in context.cohort]
        await gather(*[owner.run_round(program, team, once) for owner in owners])
        server: CurvatureHandle = handles[SERVER]
        found = await server.curvature()
        self.seen = found.raised_to(self.seen) if self.seen else found
        self._steps_since = 0
        logger.info("curvature in round %d: %s; so far %s", context.round, found, self.seen)
        return self.seen
