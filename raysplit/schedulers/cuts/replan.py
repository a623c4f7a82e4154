"""The decision to move parts of a model when compute nodes join or leave, by the remaining time with the move.

The planner of MP-SL (Tirana, Lalis and Chatzopoulos, "MP-SL: Multihop Parallel Split Learning", 2024, arXiv 2402.00208)
minimizes the time per batch T(P) of a plan P. During a run a plan Q is in place, and

    cost(P) = batches left * T(P) + bytes(Q -> P) / bandwidth + pause (if P is not Q)

is minimized, where bytes(Q -> P) are the weights of all units that change their holder. At the end of a round all
replicas of a unit are equal, so its weights move once. The optimum is exact (an integer program). The run keeps Q if
the move saves less than a share of the remaining time: without this hysteresis, parts would move whenever a node joins
or leaves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from raysplit.schedulers.cuts.ilp import Moves, Solver, best_with_moves
from raysplit.schedulers.cuts.plan import Plan, plan_for
from raysplit.schedulers.cuts.problem import CutProblem, FreeOwnerCuts, InfeasibleError
from raysplit.schedulers.cuts.segments import Segments, segments_of, sums

OWNER = "the owners"


@dataclass(frozen=True, kw_only=True)
class MovingCost:
    """The cost of a move, and the gain that it must have.

    Attributes:
        bandwidth_bytes_per_s: bandwidth of the link over which weights are sent.
        pause_ms: time of every move beside the transfer.
        min_gain: smallest share of the remaining time that a move must save.
    """

    bandwidth_bytes_per_s: float
    pause_ms: float = 0.0
    min_gain: float = 0.05

    def __post_init__(self) -> None:
        if not self.bandwidth_bytes_per_s > 0 or self.pause_ms < 0 or not 0 <= self.min_gain < 1:
            raise ValueError(
                f"{self}: bandwidth_bytes_per_s must be above 0, pause_ms at least 0, min_gain at least 0 and below 1"
            )

    def transfer_ms(self, num_bytes: float) -> float:
        return 1e3 * num_bytes / self.bandwidth_bytes_per_s


@dataclass(frozen=True, kw_only=True)
class Replan:
    """The plan with which to continue, and the numbers behind the decision.

    Attributes:
        plan: the plan with which to continue.
        is_move: whether it is another than the one in place.
        left_ms: the remaining time with the plan in place; infinite if it cannot continue.
        moved_ms: the remaining time with the best plan, the move included.
        moving_ms: the time of the move.
        moving_bytes: the size of the weights that move.
    """

    plan: Plan
    is_move: bool
    left_ms: float
    moved_ms: float
    moving_ms: float
    moving_bytes: int

    def __str__(self) -> str:
        where = f"cuts {list(self.plan.cuts)} on {', '.join(self.plan.nodes)}"
        if math.isinf(self.left_ms):
            return f"the plan in place cannot continue; move to {where}: {self._move}, {self.moved_ms / 1e3:.3g} s left"
        gain = 1 - self.moved_ms / self.left_ms
        numbers = f"{self.left_ms / 1e3:.3g} s left as it is, {self.moved_ms / 1e3:.3g} s with {self._move}"
        return f"{'move to' if self.is_move else 'keep'} {where}: {numbers}, a gain of {gain:.1%}"

    @property
    def _move(self) -> str:
        return f"a move of {self.moving_bytes / 2**20:.3g} MiB in {self.moving_ms / 1e3:.3g} s"


def replan(
    problem: CutProblem,
    cuts: Sequence[int],
    nodes: Sequence[str],
    *,
    rounds_left: int,
    moving: MovingCost,
    solver: Solver = "cbc",
) -> Replan:
    """Decide between the plan in place and a better one.

    Args:
        problem: the problem with the nodes that are present now; a plan may leave some of them unused.
        cuts, nodes: the plan in place, in pipeline order; its nodes may include some that have left.
        rounds_left: remaining rounds of the run.
        moving: the cost of a move, and the gain that it must have.
        solver: the solver of the integer program.

    Raises:
        InfeasibleError: if no plan fits the nodes that are present.
    """
    problem = replace(problem, use_all_nodes=False)
    batches = max(1, rounds_left) * problem.owners * problem.batches_per_owner
    holders = _holders(problem, cuts, nodes)
    present = _in_place(problem, cuts, nodes)
    segments = segments_of(problem, apart=nodes)
    best = best_with_moves(
        problem, segments, segments.times(problem), _moves(problem, segments, holders, batches, moving), solver
    )
    if best is None:
        raise InfeasibleError(
            f"no plan fits the compute nodes {', '.join(node.name for node in problem.nodes)}; offer more nodes "
            f"or more memory"
        )
    is_other = (best.cuts, best.nodes) != (tuple(cuts), tuple(nodes))
    num_bytes = moved_bytes(problem, holders, best)
    moving_ms = moving.transfer_ms(num_bytes) + (moving.pause_ms if is_other else 0.0)
    left_ms = batches * present.objective_ms if present is not None else math.inf
    moved_ms = batches * best.objective_ms + moving_ms
    is_move = is_other and moved_ms < (1 - moving.min_gain) * left_ms
    return Replan(
        plan=best if is_move or present is None else present,
        is_move=is_move,
        left_ms=left_ms,
        moved_ms=moved_ms,
        moving_ms=moving_ms,
        moving_bytes=num_bytes,
    )


def moved_bytes(problem: CutProblem, holders: Sequence[str], plan: Plan) -> int:
    """Compute the size of the weights of all units that change their holder."""
    after = _holders(problem, plan.cuts, plan.nodes)
    units = problem.profile.units
    return sum(unit.parameter_bytes for unit, a, b in zip(units, holders, after, strict=True) if a != b)


def _holders(problem: CutProblem, cuts: Sequence[int], nodes: Sequence[str]) -> list[str]:
    """List the holder of every unit."""
    holders = [OWNER] * len(problem.profile.units)
    for name, start, end in zip(nodes, cuts, cuts[1:], strict=False):
        holders[start:end] = [name] * (end - start)
    return holders


def _in_place(problem: CutProblem, cuts: Sequence[int], nodes: Sequence[str]) -> Plan | None:
    """Evaluate the plan in place; None if it cannot continue."""
    if not set(nodes) <= {node.name for node in problem.nodes}:
        return None
    plan = plan_for(problem, cuts, nodes)
    if isinstance(problem.units, FreeOwnerCuts):
        fits_owner = plan.owner_bytes <= problem.units.memory_bytes
    else:
        fits_owner = (cuts[0], cuts[-1]) == problem.boundaries
    return plan if plan.fits and fits_owner else None


def _moves(problem: CutProblem, segments: Segments, holders: Sequence[str], batches: int, moving: MovingCost) -> Moves:
    low, high = problem.boundaries
    sizes = np.array([unit.parameter_bytes for unit in problem.profile.units], dtype=np.float64)
    new_to = {
        name: np.where([holder == name for holder in holders], 0.0, sizes)
        for name in {OWNER, *(nodes[0].name for nodes in segments.classes)}
    }
    arriving = [sums(list(new_to[nodes[0].name][low:high])) for nodes in segments.classes]
    kept = np.concatenate([[0.0], np.cumsum(new_to[OWNER])])
    return Moves(
        batches=batches,
        segments=np.stack([moving.transfer_ms(1.0) * sums for sums in arriving]),
        starts=moving.transfer_ms(1.0) * kept[low : high + 1],
        ends=moving.transfer_ms(1.0) * (kept[-1] - kept[low : high + 1]),
    )
