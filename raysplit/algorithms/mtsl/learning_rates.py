"""Learning rates of the shared top and of every bottom: given, or from measured curvature (arXiv 2406.00150)."""

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
    """Rates as given; what is left out is the optimisers'.

    ``owners`` is one for all, a list in owner order, or by owner (the others keep the optimiser's).
    """

    server: NonNegativeFloat | None = None
    owners: NonNegativeFloat | tuple[NonNegativeFloat, ...] | dict[str, NonNegativeFloat] | None = None

    def of_server(self, default: float) -> float:
        return default if self.server is None else self.server

    def of_owners(self, names: Sequence[str], default: float) -> dict[str, float]:
        """By owner. Raises ``ValueError`` for a list of another length and for an owner that does not exist."""
        if self.owners is None or isinstance(self.owners, int | float):
            return dict.fromkeys(names, default if self.owners is None else self.owners)
        if isinstance(self.owners, tuple):
            if len(self.owners) != len(names):
                raise ValueError(f"learning_rates.owners has {len(self.owners)} rates for {len(names)} owners")
            return dict(zip(names, self.owners, strict=True))
        if strangers := self.owners.keys() - set(names):
            raise ValueError(f"learning_rates.owners names {sorted(strangers)[0]!r}; owners: {names[0]} to {names[-1]}")
        return dict.fromkeys(names, default) | self.owners


class AutoRates(Options):
    """Rates from curvature that is measured as training goes."""

    every: int = Field(default=100, ge=1)
    """Measure again after so many steps; the largest values seen so far count."""
    iterations: int = Field(default=10, ge=1)
    """Power iterations per measurement and block."""


class MeasuredRates:
    """Measures curvature when it is due, remembers the largest seen, and hands the rates out."""

    def __init__(self, auto: AutoRates, *, reduction: Reduction, seed: int) -> None:
        self._auto = auto
        self._reduction = reduction
        self._seed = seed
        self.seen: Curvature | None = None
        self._steps_since = 0

    async def refresh(self, handles: Mapping[str, Handle], context: RoundContext) -> dict[str, float]:
        """Measure on the round's first batches if so many steps have passed or somebody is new; the rates in force."""
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
        """What has been seen, and how long ago."""
        return {"seen": asdict(self.seen) if self.seen else None, "steps since": self._steps_since}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
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
