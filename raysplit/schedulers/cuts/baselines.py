"""The baselines of a plan: a split by hand, one node, whole copies side by side, one owner at a time.

From Tirana, Lalis and Chatzopoulos, "MP-SL: Multihop Parallel Split Learning", 2024, arXiv 2402.00208.
All use the profile and the memory model of the planner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from raysplit.registry import number_of
from raysplit.schedulers.cuts.plan import Plan, plan_for
from raysplit.schedulers.cuts.problem import ComputeNodeSpec, CutProblem, FreeOwnerCuts, InfeasibleError
from raysplit.schedulers.cuts.profiles import BYTES_PER_GIB
from raysplit.schedulers.cuts.solve import solve_dp
from raysplit.schedulers.cuts.time_model import OwnerLoad, Stage


def manual_split(problem: CutProblem) -> Plan:
    """Give all nodes about the same time, in the order offered, by the better of two rules of a careful person.

    By the first rule a node takes the next unit if that brings its time nearer to the mean over the nodes. By the
    second the cuts are where the work done so far is nearest to what the nodes so far should do. A node takes at least
    one unit. Memory is ignored: see `Plan.fits`.
    """
    first, end = _fixed_units(problem)
    rates = [1 / _unit_ms(problem, node, first, end) for node in problem.nodes]
    names = [node.name for node in problem.nodes]
    found = [rule(problem, first, end, rates) for rule in (_nearest_to_mean, _nearest_to_share)]
    return min((plan_for(problem, cuts, names) for cuts in found), key=lambda plan: plan.objective_ms)


def _nearest_to_mean(problem: CutProblem, first: int, end: int, rates: Sequence[float]) -> list[int]:
    mean_ms = 1 / sum(rates)
    cuts = [first]
    for index, node in enumerate(problem.nodes[:-1]):
        last_possible = end - (len(problem.nodes) - 1 - index)
        cut = cuts[-1] + 1
        while cut < last_possible:
            now, more = (abs(_unit_ms(problem, node, cuts[-1], to) - mean_ms) for to in (cut, cut + 1))
            if more >= now:
                break
            cut += 1
        cuts.append(cut)
    return [*cuts, end]


def _nearest_to_share(problem: CutProblem, first: int, end: int, rates: Sequence[float]) -> list[int]:
    reference = problem.nodes[0]
    whole_ms, num_nodes = _unit_ms(problem, reference, first, end), len(problem.nodes)
    cuts = [first]
    for index in range(1, num_nodes):
        wanted_ms = whole_ms * sum(rates[:index]) / sum(rates)
        possible = range(cuts[-1] + 1, end - (num_nodes - 1 - index))
        cuts.append(min(possible, key=lambda cut: abs(_unit_ms(problem, reference, first, cut) - wanted_ms)))
    return [*cuts, end]


def one_hop(problem: CutProblem) -> Plan:
    """Put all units on the single best node. Raises InfeasibleError if none can hold them."""
    plans, reasons = [], []
    for node in problem.nodes:
        try:
            plans.append(solve_dp(replace(problem, nodes=(node,))))
        except InfeasibleError as reason:
            reasons.append(reason)
    if not plans:
        raise InfeasibleError("; ".join(str(reason) for reason in reasons))
    return min(plans, key=lambda plan: plan.objective_ms)


@dataclass(frozen=True, kw_only=True)
class HorizontalShare:
    """The share of a node that holds all units for `num_owners` owners; `batch_ms` is its time for one batch."""

    node: str
    num_owners: int
    batch_ms: float
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class HorizontalPlan:
    """A plan of horizontally scaled parallel split learning: every node runs all units for its own owners."""

    shares: tuple[HorizontalShare, ...]
    batches_per_owner: int

    @property
    def round_ms(self) -> float:
        """The time of a round if every node is always busy: that of the slowest node."""
        return max(share.num_owners * share.batch_ms for share in self.shares) * self.batches_per_owner


def horizontal_scaling(problem: CutProblem) -> HorizontalPlan:
    """Assign owners to nodes optimally: each goes to the node with the smallest load afterwards that has memory left.

    Raises InfeasibleError if the nodes cannot hold a replica for every owner.
    """
    first, end = _fixed_units(problem)
    replica_bytes = sum(problem.replica_bytes(unit) for unit in problem.profile.units[first:end])
    batch_ms = [_unit_ms(problem, node, first, end) for node in problem.nodes]
    room = [node.kind.memory_bytes // replica_bytes for node in problem.nodes]
    if sum(room) < problem.owners:
        raise InfeasibleError(
            f"{sum(room)} whole replicas of units {first}-{end - 1} fit, {replica_bytes / BYTES_PER_GIB:.3f} GiB each; "
            f"{problem.owners} owners need one each; offer more memory, or split the units over the nodes"
        )
    owners = [0] * len(problem.nodes)
    for _ in range(problem.owners):
        free = [i for i in range(len(owners)) if owners[i] < room[i]]
        owners[min(free, key=lambda i: (owners[i] + 1) * batch_ms[i])] += 1
    shares = tuple(
        HorizontalShare(node=node.name, num_owners=count, batch_ms=ms, memory_bytes=count * replica_bytes)
        for node, count, ms in zip(problem.nodes, owners, batch_ms, strict=True)
    )
    return HorizontalPlan(shares=shares, batches_per_owner=problem.batches_per_owner)


def _sequential_batch_ms(node: Stage, owner: OwnerLoad) -> float:
    """Compute the time of one batch of SplitNN: nothing overlaps, so computation and the four transfers add up."""
    own_ms = owner.first_forward_ms + owner.last_ms + owner.first_backward_ms
    num_bytes = owner.first_bytes + owner.last_bytes
    return own_ms + node.busy_ms + owner.up_ms(num_bytes) + owner.down_ms(num_bytes)


def sequential_round_ms(node: Stage, owners: Sequence[OwnerLoad], batches: int, handover_ms: float) -> float:
    """Compute the time of a round of SplitNN: K owners train in turn and pass the model on K - 1 times."""
    return sum(batches * _sequential_batch_ms(node, owner) for owner in owners) + (len(owners) - 1) * handover_ms


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """Another way to train the same owners; if it is impossible, `round_ms` is None and `note` says why."""

    name: str
    round_ms: float | None
    note: str = ""


def alternatives(problem: CutProblem, plan: Plan) -> tuple[Alternative, ...]:
    """Evaluate a split by hand, one node, and whole copies side by side, with the owner's cuts of the `plan`."""
    question = replace(problem, units=(plan.cuts[0], plan.cuts[-1] - 1))
    return (_by_hand(question), _on_one_node(question), _side_by_side(question))


def _by_hand(problem: CutProblem) -> Alternative:
    name = "split by hand"
    try:
        plan = manual_split(problem)
    except ValueError as reason:
        return Alternative(name=name, round_ms=None, note=str(reason))
    short = [share.node for share in plan.shares if share.memory_bytes > share.memory_limit_bytes]
    note = f"cuts {list(plan.cuts)}" + (f"; too much for the memory of {', '.join(short)}" if short else "")
    return Alternative(name=name, round_ms=plan.round_ms, note=note)


def _on_one_node(problem: CutProblem) -> Alternative:
    try:
        plan = one_hop(problem)
    except InfeasibleError as reason:
        return Alternative(name="one node", round_ms=None, note=str(reason))
    return Alternative(name="one node", round_ms=plan.round_ms, note=plan.nodes[0])


def _side_by_side(problem: CutProblem) -> Alternative:
    name = "whole copies side by side"
    try:
        plan = horizontal_scaling(problem)
    except InfeasibleError as reason:
        return Alternative(name=name, round_ms=None, note=str(reason))
    note = ", ".join(f"{number_of(share.num_owners, 'owner')} on {share.node}" for share in plan.shares)
    return Alternative(name=name, round_ms=plan.round_ms, note=note)


def _fixed_units(problem: CutProblem) -> tuple[int, int]:
    if isinstance(problem.units, FreeOwnerCuts):
        raise ValueError("this baseline needs fixed owner cuts; give units=(first, last)")
    return problem.boundaries


def _unit_ms(problem: CutProblem, node: ComputeNodeSpec, first: int, end: int) -> float:
    units = problem.units_on(node)[first:end]
    return problem.slowdown_on(node) * sum(unit.forward_ms + unit.backward_ms + unit.update_ms for unit in units)
