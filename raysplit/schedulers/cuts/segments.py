"""All parts that a node could run, as arrays for the planners.

A *segment* `[start, end)` of the chain on a node costs a forward time, a backward time and memory. Nodes that differ
only in name form one *class* with a count, so that a planner never tries the same plan twice.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raysplit.schedulers.cuts.problem import ComputeNodeSpec, CutProblem, FreeOwnerCuts
from raysplit.schedulers.cuts.profiles import BYTES_PER_GIB

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs [C, P, P] of segments; a plan of `allowed` ones minimizes the max of `first` plus the max of `second`."""

    first: Floats
    second: Floats
    allowed: Bools


@dataclass(frozen=True, kw_only=True)
class Segments:
    """Arrays over (node class, start, end); positions count from `offset`, the lowest possible first cut.

    Attributes:
        offset: the lowest possible first cut.
        classes: the nodes of each class, in the order offered.
        forward_ms, backward_ms, stage_ms: [C, P, P], times of both directions and of both together, with transfers.
        shortage_gib: [C, P, P], memory that the node lacks for its replicas, 0 if they fit.
        real: [P, P], whether start comes before end.
        owner_bytes: [P, P], memory of the owner's parts for a first and a last cut.
        owner_fits: [P, P], whether the owner allows these cuts.
    """

    offset: int
    classes: tuple[tuple[ComputeNodeSpec, ...], ...]
    forward_ms: Floats
    backward_ms: Floats
    stage_ms: Floats
    shortage_gib: Floats
    real: Bools
    owner_bytes: Floats
    owner_fits: Bools

    @property
    def fits(self) -> Bools:
        """The segments [C, P, P] that exist and fit the node's memory."""
        fits: Bools = self.real & (self.shortage_gib == 0)
        return fits

    def times(self, problem: CutProblem) -> Costs:
        """Return the times per batch that `problem` minimizes."""
        if problem.objective == "bottleneck":
            return Costs(first=self.stage_ms, second=np.zeros_like(self.stage_ms), allowed=self.fits)
        return Costs(first=self.forward_ms, second=self.backward_ms, allowed=self.fits)

    def shortages(self) -> Costs:
        """Return the memory in GiB that nodes lack, with all segments allowed."""
        everywhere = np.broadcast_to(self.real, self.shortage_gib.shape)
        return Costs(first=self.shortage_gib, second=np.zeros_like(self.shortage_gib), allowed=everywhere)


def segments_of(problem: CutProblem, apart: Collection[str] = ()) -> Segments:
    """Enumerate the segments of `problem` on its classes of nodes; each node in ``apart`` is a class of its own."""
    low, high = problem.boundaries
    classes: dict[object, list[ComputeNodeSpec]] = {}
    for node in problem.nodes:
        kind = node.kind
        own = node.name if node.name in apart else None
        key = (kind.memory_bytes, kind.slowdown, kind.price_per_hour, node.profile, node.link_bytes_per_s, own)
        classes.setdefault(key, []).append(node)
    costs = [_costs(problem, nodes[0]) for nodes in classes.values()]
    replica = [problem.replica_bytes(unit) for unit in problem.profile.units]
    needed = problem.owners * sums(replica[low:high])
    memory = np.array([nodes[0].kind.memory_bytes for nodes in classes.values()])
    owner_bytes = sum(replica) - sums(replica[low:high])
    real = np.triu(np.ones_like(needed, dtype=bool), k=1)
    return Segments(
        offset=low,
        classes=tuple(tuple(nodes) for nodes in classes.values()),
        forward_ms=np.stack([forward for forward, _, _ in costs]),
        backward_ms=np.stack([backward for _, backward, _ in costs]),
        stage_ms=np.stack([stage for _, _, stage in costs]),
        shortage_gib=np.maximum(needed - memory[:, None, None], 0.0) / BYTES_PER_GIB,
        real=real,
        owner_bytes=owner_bytes,
        owner_fits=real & _owner_fits(problem, owner_bytes),
    )


def _costs(problem: CutProblem, node: ComputeNodeSpec) -> tuple[Floats, Floats, Floats]:
    low, high = problem.boundaries
    units = problem.units_on(node)[low:high]
    slowdown = problem.slowdown_on(node)
    forward = slowdown * sums([unit.forward_ms for unit in units])
    backward = slowdown * sums([unit.backward_ms + unit.update_ms for unit in units])
    if node.link_bytes_per_s is None:
        return forward, backward, forward + backward
    crossing = [unit.activation_bytes for unit in problem.profile.units[low - 1 : high]]
    link_ms = 1e3 * np.array(crossing) / node.link_bytes_per_s
    entering, leaving = link_ms[:, None], link_ms[None, :]
    longer = np.maximum(entering, leaving)
    return (
        np.maximum(forward, longer),
        np.maximum(backward, longer),
        np.maximum(forward + backward, entering + leaving),
    )


def _owner_fits(problem: CutProblem, owner_bytes: Floats) -> Bools:
    if isinstance(problem.units, FreeOwnerCuts):
        low, high = problem.boundaries
        may_begin = np.array([problem.may_begin_at(cut) for cut in range(low, high + 1)])
        return may_begin[:, None] & (owner_bytes <= problem.units.memory_bytes)
    whole = np.zeros_like(owner_bytes, dtype=bool)
    whole[0, -1] = True
    return whole


def sums(values: list[float] | list[int]) -> Floats:
    """Compute an array [P, P] whose entry (start, end) is the sum of `values[start:end]`."""
    prefix = np.concatenate([[0.0], np.cumsum(np.array(values, dtype=np.float64))])
    sums: Floats = prefix[None, :] - prefix[:, None]
    return sums
