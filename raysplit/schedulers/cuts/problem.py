"""The question a planner answers: where to cut the chain, and which node runs which part.

A chain of units is cut into one part for each compute node; the owner keeps the head and the tail. Every node holds one
replica of its part per data owner (Tirana, Lalis and Chatzopoulos, "MP-SL: Multihop Parallel Split Learning", 2024,
arXiv 2402.00208). A list of cuts `(c0, c1, ..., cN)` says: units before `c0` stay with the owner, node `i` (from 1)
runs units `c(i-1)` to `c(i) - 1`, units from `cN` on are the owner's again.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from raysplit.schedulers.cuts.profiles import NodeKind, Profile, UnitProfile

Objective = Literal["sum_of_max", "bottleneck", "price"]
MemoryModel = Literal["activations_and_parameters", "with_gradients_and_optimizer"]


class InfeasibleError(ValueError):
    """Raised if no plan fits; the message names the constraint that is missed by least, and by how much."""


@dataclass(frozen=True, kw_only=True)
class ComputeNodeSpec:
    """One machine on offer.

    Attributes:
        name: the name of the machine.
        kind: its memory, slowdown and price.
        profile: the model measured on this device; None uses the problem's profile times the kind's slowdown.
        link_bytes_per_s: bandwidth of its network interface in each direction, which makes its transfers stages of
            the pipeline; None ignores them, as the paper does.
    """

    name: str
    kind: NodeKind
    profile: Profile | None = None
    link_bytes_per_s: float | None = None

    def __post_init__(self) -> None:
        if self.link_bytes_per_s is not None and not self.link_bytes_per_s > 0:
            raise ValueError(
                f"node {self.name!r} has a link of {self.link_bytes_per_s} bytes/s; give it more than 0, or "
                "leave links out of the plan"
            )


@dataclass(frozen=True, kw_only=True)
class FreeOwnerCuts:
    """Free first and last cuts: the owner keeps the first units, until inputs do not leave it, and what else fits."""

    memory_bytes: int

    def __post_init__(self) -> None:
        if self.memory_bytes <= 0:
            raise ValueError(f"the owner has {self.memory_bytes} bytes of memory; give it more than 0")


@dataclass(frozen=True, kw_only=True)
class CutProblem:
    """The problem of placing a range of units on compute nodes.

    Attributes:
        profile: times and sizes of the model's units.
        owners: number of data owners.
        nodes: machines on offer.
        units: first and last unit (both included) that the nodes run, or `FreeOwnerCuts`.
        objective: "sum_of_max" is the paper's `max F_i + max G_i`, "bottleneck" the true saturated time per batch
            `max (F_i + G_i)`, "price" the cheapest set of nodes whose `max F_i + max G_i` is at most `max_time_ms`.
        max_time_ms: largest time per batch, for "price".
        memory_model: whether a replica takes the memory of its outputs and weights (the paper), or of its outputs and
            three times its weights (gradients and momentum too).
        use_all_nodes: whether each node on offer runs at least one unit (the paper), or some may stay unused.
        batches_per_owner: batches of each owner in one round, in all local epochs together.
        may_send_inputs: whether cuts at which raw inputs leave the owner are allowed.
        first_cuts: the first cuts that a limit of leakage allows; None allows all.
    """

    profile: Profile
    owners: int
    nodes: tuple[ComputeNodeSpec, ...]
    units: tuple[int, int] | FreeOwnerCuts
    objective: Objective = "sum_of_max"
    max_time_ms: float = math.inf
    memory_model: MemoryModel = "activations_and_parameters"
    use_all_nodes: bool = True
    batches_per_owner: int = 32
    may_send_inputs: bool = False
    first_cuts: frozenset[int] | None = None

    def __post_init__(self) -> None:
        if self.owners < 1 or self.batches_per_owner < 1:
            raise ValueError(
                f"{self.owners} owners with {self.batches_per_owner} batches each; a plan needs at least one of both"
            )
        if not self.nodes:
            raise ValueError("no compute nodes on offer; name at least one")
        if doubled := [name for name, count in Counter(node.name for node in self.nodes).items() if count > 1]:
            raise ValueError(f"two compute nodes are called {doubled[0]!r}; names must differ, so choose another")
        if self.max_time_ms != math.inf and self.objective != "price":
            raise ValueError(f"max_time_ms bounds the objective 'price', not {self.objective!r}; leave it out")
        for node in self.nodes:
            if node.profile is not None and len(node.profile.units) != len(self.profile.units):
                raise ValueError(
                    f"the profile of node {node.name!r} has {len(node.profile.units)} units, {self.profile.model} has "
                    f"{len(self.profile.units)}; measure the same model on it with `raysplit profile`"
                )
        self._check_units()

    def _check_units(self) -> None:
        first, last = self.boundaries[0], self.boundaries[1] - 1
        known = len(self.profile.units)
        if not 1 <= first <= last < known:
            raise ValueError(
                f"units {first}-{last} of {self.profile.model}: the first must be at least 1 (unit 0 stays with the "
                f"owner), the last at most {known - 1}"
            )
        private = self.profile.first_private_cut()
        if not self.may_send_inputs and (private is None or first < private):
            kept = f"let the owner keep units 0-{private - 1}" if private else "no cut of this model keeps the inputs"
            raise ValueError(
                f"the nodes' first unit is {first}, and in front of it no weights change the owner's inputs, which "
                f"would leave it as they are; {kept}, or allow it by name (--send-inputs, model.send_inputs, "
                f"may_send_inputs)"
            )
        if self.use_all_nodes and len(self.nodes) > last - first + 1:
            raise ValueError(
                f"{len(self.nodes)} compute nodes for the {last - first + 1} units {first}-{last}: every node runs at "
                "least one unit; offer fewer nodes or more units, or let nodes stay unused (use_all_nodes=False)"
            )

    @property
    def boundaries(self) -> tuple[int, int]:
        """The lowest possible first cut and the highest possible last cut."""
        if isinstance(self.units, FreeOwnerCuts):
            lowest = 1 if self.may_send_inputs else self.profile.first_private_cut() or 1
            return lowest, len(self.profile.units)
        return self.units[0], self.units[1] + 1

    def may_begin_at(self, cut: int) -> bool:
        """Return whether a plan may have this first cut."""
        return self.first_cuts is None or cut in self.first_cuts

    def replica_bytes(self, unit: UnitProfile) -> int:
        """Compute the memory of one replica of `unit` under the memory model."""
        copies = 1 if self.memory_model == "activations_and_parameters" else 3
        return unit.activation_bytes + copies * unit.parameter_bytes

    def units_on(self, node: ComputeNodeSpec) -> tuple[UnitProfile, ...]:
        """Return the units whose times, multiplied by `slowdown_on`, are those of `node`."""
        return self.profile.units if node.profile is None else node.profile.units

    def slowdown_on(self, node: ComputeNodeSpec) -> float:
        """Return 1 for a node that was measured itself, else the slowdown of its kind."""
        return node.kind.slowdown if node.profile is None else 1.0
