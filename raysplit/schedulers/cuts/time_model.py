"""The time of a round of pipelined split learning, in closed form.

Equations (1) to (6) of Tirana, Lalis and Chatzopoulos, "MP-SL: Multihop Parallel Split Learning", 2024,
arXiv 2402.00208, restated by the same authors in "Estimating the Training Time in Single- and Multi-Hop Split
Federated Learning", EdgeSys 2025. They assume a full pipeline, which there is from `saturation_owners` owners on. A
lower bound holds always: an owner has one batch in flight, and a node has one worker for both directions. All times are
in ms. The ground truth is the simulator, which runs the algorithm itself on a virtual clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MS_PER_S = 1e3


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The times of one compute node for one batch; the gradient leaves before the update."""

    forward_ms: float
    backward_ms: float
    update_ms: float = 0.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(ms) and ms >= 0 for ms in (self.forward_ms, self.backward_ms, self.update_ms)):
            raise ValueError(f"{self} has a time that is negative or not finite; give three times in ms, at least 0")

    @property
    def back_ms(self) -> float:
        """The time of backward pass and update, `procT_back` in the paper."""
        return self.backward_ms + self.update_ms

    @property
    def busy_ms(self) -> float:
        """The time for which one batch occupies the node in all."""
        return self.forward_ms + self.back_ms


@dataclass(frozen=True, kw_only=True)
class OwnerLoad:
    """The compute times and transfers of one data owner for one batch.

    `first_bytes` is the size of its first part's output (and of the gradient that comes back for it), `last_bytes` that
    of its last part's input. Bandwidths are towards the nodes (up) and from them (down).
    """

    first_forward_ms: float
    last_ms: float
    first_backward_ms: float
    first_bytes: float
    last_bytes: float
    up_bytes_per_s: float
    down_bytes_per_s: float

    def __post_init__(self) -> None:
        if not (self.up_bytes_per_s > 0 and self.down_bytes_per_s > 0):
            raise ValueError(
                f"an owner's link carries {self.up_bytes_per_s} bytes/s up and {self.down_bytes_per_s} down; both must "
                "be more than 0"
            )

    def up_ms(self, num_bytes: float) -> float:
        """Compute the time to send `num_bytes` to a node."""
        return MS_PER_S * num_bytes / self.up_bytes_per_s

    def down_ms(self, num_bytes: float) -> float:
        """Compute the time to receive `num_bytes` from a node."""
        return MS_PER_S * num_bytes / self.down_bytes_per_s


@dataclass(frozen=True, kw_only=True)
class Round:
    """A round for the closed form: the stages, all owners, and `batches` of each owner (r epochs of B batches)."""

    stages: tuple[Stage, ...]
    owners: tuple[OwnerLoad, ...]
    batches: int

    def __post_init__(self) -> None:
        if not self.stages or not self.owners or self.batches < 1:
            raise ValueError(
                f"{len(self.stages)} stages, {len(self.owners)} owners and {self.batches} batches; a round needs "
                "at least one of each"
            )

    @property
    def num_tasks(self) -> int:
        """The number of batches of all owners together, r B K."""
        return self.batches * len(self.owners)


@dataclass(frozen=True, kw_only=True)
class Averaging:
    """The averaging of the owners' parts: their size, the aggregator's link to each owner, and its compute time."""

    bytes_per_owner: float
    link_bytes_per_s: float
    compute_ms: float = 0.0

    def __post_init__(self) -> None:
        if not self.link_bytes_per_s > 0:
            raise ValueError(f"the aggregator's link carries {self.link_bytes_per_s} bytes/s; give it more than 0")


def full_ms(stages: Sequence[Stage]) -> float:
    """Compute the time per batch of the full pipeline, `L_fwd + L_back`; equations (1), (2), (3)."""
    return max(stage.forward_ms for stage in stages) + max(stage.back_ms for stage in stages)


def saturated_ms(stages: Sequence[Stage]) -> float:
    """Compute the true time per batch of the full pipeline: that of the busiest node, with both directions."""
    return max(stage.busy_ms for stage in stages)


def training_ms(work: Round) -> float:
    """Compute the time of all batches; equation (4), which has a form of its own for a single node."""
    start_ms = _mean([owner.first_forward_ms + owner.up_ms(owner.first_bytes) for owner in work.owners])
    end_ms = _mean([owner.first_backward_ms + owner.down_ms(owner.first_bytes) for owner in work.owners])
    if len(work.stages) == 1:
        return start_ms + work.num_tasks * work.stages[0].busy_ms + end_ms
    empty_ms = sum(stage.busy_ms for stage in work.stages)
    return start_ms + empty_ms + (work.num_tasks - 1) * full_ms(work.stages) + end_ms


def averaging_ms(num_owners: int, averaging: Averaging) -> float:
    """Compute the time of averaging: the last upload, the sum, all downloads one after the other; equation (5)."""
    transfer_ms = MS_PER_S * averaging.bytes_per_owner / averaging.link_bytes_per_s
    return transfer_ms + averaging.compute_ms + num_owners * transfer_ms


def round_ms(work: Round, averaging: Averaging) -> float:
    """Compute the time of a round, training and averaging; equation (6)."""
    return training_ms(work) + averaging_ms(len(work.owners), averaging)


def loop_ms(stages: Sequence[Stage], owner: OwnerLoad, hop_ms: Sequence[float] = ()) -> float:
    """Compute the round trip of one batch if no other is under way: computation, and all transfers.

    Args:
        stages: the compute nodes.
        owner: the owner, with four transfers on its link.
        hop_ms: transfer times between consecutive nodes, in one direction; they count both ways.

    Updates are not on the path.
    """
    own_ms = owner.first_forward_ms + owner.last_ms + owner.first_backward_ms
    links_ms = owner.up_ms(owner.first_bytes + owner.last_bytes) + owner.down_ms(owner.first_bytes + owner.last_bytes)
    return own_ms + links_ms + sum(stage.forward_ms + stage.backward_ms for stage in stages) + 2 * sum(hop_ms)


def training_lower_bound_ms(work: Round, hop_ms: Sequence[float] = ()) -> float:
    """Compute a lower bound on the time of any schedule: an owner's batches, and a node's tasks, run in sequence."""
    slowest_loop_ms = max(loop_ms(work.stages, owner, hop_ms) for owner in work.owners)
    return max(work.batches * slowest_loop_ms, work.num_tasks * saturated_ms(work.stages))


def saturation_owners(work: Round, hop_ms: Sequence[float] = ()) -> float:
    """Compute K*, the number of owners below which the pipeline is never full and equation (4) is too low."""
    return _mean([loop_ms(work.stages, owner, hop_ms) for owner in work.owners]) / full_ms(work.stages)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
