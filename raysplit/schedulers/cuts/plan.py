"""A plan: the cuts, the node of each part, and the resulting time, memory and price.

`L_fwd` and `L_back` are the longest forward and backward stage, equations (1) and (2) of Tirana, Lalis and
Chatzopoulos, "MP-SL: Multihop Parallel Split Learning", 2024, arXiv 2402.00208; the backward time includes the weight
update. One worker serves both directions on a node, so `max (F_i + G_i)` is the true time per batch of a full pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from raysplit.registry import number_of
from raysplit.schedulers.cuts.problem import ComputeNodeSpec, CutProblem, Objective
from raysplit.schedulers.cuts.profiles import BYTES_PER_GIB

_MS_PER_HOUR = 3_600_000.0


@dataclass(frozen=True, kw_only=True)
class NodeShare:
    """The share of one node: units `first_unit` to `last_unit`, both included, with one replica for each owner.

    `forward_ms` and `backward_ms` (with update) are the compute times of one batch; `link_ms` is the time its network
    interface is busy in one direction, 0 when links are left out of the plan.
    """

    node: str
    kind: str
    first_unit: int
    last_unit: int
    forward_ms: float
    backward_ms: float
    link_ms: float
    memory_bytes: int
    memory_limit_bytes: int
    price_per_hour: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The cuts of a chain and the nodes that run its parts, in pipeline order.

    `objective_ms` is the time per batch that was minimized (or bounded, for the objective "price"): `L_fwd + L_back`,
    or `bottleneck_ms` for the objective "bottleneck". `owner_bytes` is the memory of an owner's own two parts, and
    `owner_ms` their time per batch, 0 where it is not counted.
    """

    model: str
    owners: int
    batches_per_owner: int
    objective: Objective
    cuts: tuple[int, ...]
    shares: tuple[NodeShare, ...]
    unused: tuple[str, ...]
    owner_bytes: int
    l_fwd_ms: float
    l_bwd_ms: float
    bottleneck_ms: float
    owner_ms: float = 0.0

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the nodes in pipeline order."""
        return tuple(share.node for share in self.shares)

    @property
    def objective_ms(self) -> float:
        """The time per batch of the full pipeline, as the objective counts it."""
        return self.bottleneck_ms if self.objective == "bottleneck" else self.l_fwd_ms + self.l_bwd_ms

    @property
    def round_ms(self) -> float:
        """The time of all batches of a round in a full pipeline, without start, end and averaging."""
        return self.batches_per_owner * max(self.owners * self.objective_ms, self.owner_ms)

    @property
    def price_per_hour(self) -> float:
        """The price of the nodes that are used."""
        return sum(share.price_per_hour for share in self.shares)

    @property
    def price_per_round(self) -> float:
        """The price of one round."""
        return self.price_per_hour * self.round_ms / _MS_PER_HOUR

    @property
    def fits(self) -> bool:
        """Whether every node has the memory for its replicas; a plan by hand may not fit."""
        return all(share.memory_bytes <= share.memory_limit_bytes for share in self.shares)

    def to_dict(self) -> dict[str, object]:
        """Convert the plan to plain values, with times in ms and sizes in bytes."""
        return {
            "model": self.model,
            "owners": self.owners,
            "batches_per_owner": self.batches_per_owner,
            "objective": self.objective,
            "objective_ms": self.objective_ms,
            "l_fwd_ms": self.l_fwd_ms,
            "l_bwd_ms": self.l_bwd_ms,
            "bottleneck_ms": self.bottleneck_ms,
            "cuts": list(self.cuts),
            "nodes": list(self.nodes),
            "unused": list(self.unused),
            "owner_bytes": self.owner_bytes,
            "owner_ms": self.owner_ms,
            "round_ms": self.round_ms,
            "price_per_hour": self.price_per_hour,
            "price_per_round": self.price_per_round,
            "shares": [asdict(share) for share in self.shares],
        }

    def __str__(self) -> str:
        header = ("node", "units", "forward ms", "backward ms", "memory GiB", "of GiB")
        rows = [
            (
                share.node,
                f"{share.first_unit}-{share.last_unit}",
                f"{share.forward_ms:.2f}",
                f"{share.backward_ms:.2f}",
                f"{share.memory_bytes / BYTES_PER_GIB:.2f}",
                f"{share.memory_limit_bytes / BYTES_PER_GIB:.2f}",
            )
            for share in self.shares
        ]
        widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
        lines = [
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in [header, *rows]
        ]
        sum_ms = self.l_fwd_ms + self.l_bwd_ms
        title = f"{self.model} for {number_of(self.owners, 'owner')}, cuts {list(self.cuts)}"
        owner = f"each owner holds {self.owner_bytes / BYTES_PER_GIB:.2f} GiB"
        total = (
            f"L_fwd {self.l_fwd_ms:.2f} + L_back {self.l_bwd_ms:.2f} = {sum_ms:.2f} ms per batch, "
            f"busiest node {self.bottleneck_ms:.2f} ms, round {self.round_ms / 60_000:.2f} min"
        )
        unused = [f"unused: {', '.join(self.unused)}"] if self.unused else []
        price = (
            [f"{self.price_per_hour:.4g} per hour, {self.price_per_round:.4g} per round"] if self.price_per_hour else []
        )
        return "\n".join([title, *lines, owner, total, *unused, *price])


def plan_for(problem: CutProblem, cuts: Sequence[int], nodes: Sequence[str]) -> Plan:
    """Compute time, memory and price of given cuts and nodes.

    Args:
        problem: the profile, the nodes on offer and the owners.
        cuts: cuts in rising order, one more than there are nodes.
        nodes: names of nodes in pipeline order.

    Returns:
        The plan. Memory limits are reported, not enforced: see `Plan.fits`.

    Raises:
        ValueError: for an unknown node, or cuts that do not match the nodes.
    """
    offered = {node.name: node for node in problem.nodes}
    if unknown := [name for name in nodes if name not in offered]:
        raise ValueError(f"no compute node {unknown[0]!r} is on offer; give some of {', '.join(offered)}")
    num_units = len(problem.profile.units)
    if len(cuts) != len(nodes) + 1:
        raise ValueError(
            f"{len(nodes)} compute nodes need {len(nodes) + 1} cuts, got {tuple(cuts)}; the first and the last bound "
            'the owner\'s parts; `raysplit plan` finds a list, such as "cuts: [2, 18, 36]" for 2 nodes'
        )
    if list(cuts) != sorted(set(cuts)) or cuts[0] < 1 or cuts[-1] > num_units:
        raise ValueError(
            f"cuts {tuple(cuts)} must rise, from at least 1 to at most {num_units} for {problem.profile.model}"
        )
    shares = tuple(
        _share(problem, offered[name], start, end) for name, start, end in zip(nodes, cuts, cuts[1:], strict=False)
    )
    links = [_link_ms(problem, offered[share.node], share.first_unit, share.last_unit + 1) for share in shares]
    owned = problem.profile.units[: cuts[0]] + problem.profile.units[cuts[-1] :]
    return Plan(
        model=problem.profile.model,
        owners=problem.owners,
        batches_per_owner=problem.batches_per_owner,
        objective=problem.objective,
        cuts=tuple(cuts),
        shares=shares,
        owner_bytes=sum(problem.replica_bytes(unit) for unit in owned),
        unused=tuple(name for name in offered if name not in nodes),
        l_fwd_ms=max(max(share.forward_ms, *link) for share, link in zip(shares, links, strict=True)),
        l_bwd_ms=max(max(share.backward_ms, *link) for share, link in zip(shares, links, strict=True)),
        bottleneck_ms=max(max(share.forward_ms + share.backward_ms, share.link_ms) for share in shares),
    )


def _share(problem: CutProblem, node: ComputeNodeSpec, start: int, end: int) -> NodeShare:
    slowdown = problem.slowdown_on(node)
    units = problem.units_on(node)[start:end]
    return NodeShare(
        node=node.name,
        kind=node.kind.name,
        first_unit=start,
        last_unit=end - 1,
        forward_ms=slowdown * sum(unit.forward_ms for unit in units),
        backward_ms=slowdown * sum(unit.backward_ms + unit.update_ms for unit in units),
        link_ms=sum(_link_ms(problem, node, start, end)),
        memory_bytes=problem.owners * sum(problem.replica_bytes(unit) for unit in problem.profile.units[start:end]),
        memory_limit_bytes=node.kind.memory_bytes,
        price_per_hour=node.kind.price_per_hour,
    )


def _link_ms(problem: CutProblem, node: ComputeNodeSpec, start: int, end: int) -> tuple[float, float]:
    """Compute the transfer times of a part's input and output; a gradient is as large as its activation."""
    if node.link_bytes_per_s is None:
        return 0.0, 0.0
    entering, leaving = (problem.profile.units[cut - 1].activation_bytes for cut in (start, end))
    return 1e3 * entering / node.link_bytes_per_s, 1e3 * leaving / node.link_bytes_per_s
