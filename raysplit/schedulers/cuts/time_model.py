"""How long a round of pipelined split learning takes, in closed form.

Equations (1) to (6) of Tirana, Lalis and Chatzopoulos, "MP-SL: Multihop Parallel Split Learning", 2024,
arXiv 2402.00208, restated by the same authors in "Estimating the Training Time in Single- and Multi-Hop Split
Federated Learning", EdgeSys 2025. They assume a full pipeline. Beside them stands a lower bound that always holds:
an owner has one batch in flight, and a node has one worker for both directions. From `saturation_owners` owners on the
pipeline is full.
All times are in ms. The ground truth is the simulator, which runs the algorithm itself on a virtual clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MS_PER_S = 1e3


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One compute node's times for one batch; the gradient leaves before the update."""

    forward_ms: float
    backward_ms: float
    update_ms: float = 0.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(ms) and ms >= 0 for ms in (self.forward_ms, self.backward_ms, self.update_ms)):
            raise ValueError(f"{self} has a time that is negative or not finite; give the three times in ms")

    @property
    def back_ms(self) -> float:
        """Backward pass and update: `procT_back` of the paper."""
        return self.backward_ms + self.update_ms

    @property
    def busy_ms(self) -> float:
        """How long one batch keeps the node busy in all."""
        return self.forward_ms + self.back_ms


@dataclass(frozen=True, kw_only=True)
class OwnerLoad:
    """One data owner's compute times and transfers of one batch.

    `first_bytes` is the output of its first part (and the gradient that comes back for it), `last_bytes` the input of
    its last part. Bandwidths are towards the nodes (up) and from them (down).
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
        """Time to send `num_bytes` to a node."""
        return MS_PER_S * num_bytes / self.up_bytes_per_s

    def down_ms(self, num_bytes: float) -> float:
        """Time to receive `num_bytes` from a node."""
        return MS_PER_S * num_bytes / self.down_bytes_per_s


@dataclass(frozen=True, kw_only=True)
class Round:
    """Everything the closed form needs: the stages, all owners, and `batches` of each owner (r epochs of B batches)."""

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
        """Batches of all owners together, r B K."""
        return self.batches * len(self.owners)


@dataclass(frozen=True, kw_only=True)
class Averaging:
    """How the owners' parts are averaged: their bytes, the aggregator's link to each owner and its own time."""

    bytes_per_owner: float
    link_bytes_per_s: float
    compute_ms: float = 0.0

    def __post_init__(self) -> None:
        if not self.link_bytes_per_s > 0:
            raise ValueError(f"the aggregator's link carries {self.link_bytes_per_s} bytes/s; give it more than 0")


def full_ms(stages: Sequence[Stage]) -> float:
    """Time per batch of the full pipeline, `L_fwd + L_back`; equations (1), (2), (3)."""
    return max(stage.forward_ms for stage in stages) + max(stage.back_ms for stage in stages)


def saturated_ms(stages: Sequence[Stage]) -> float:
    """True time per batch of the full pipeline: the busiest node, whose one worker serves both directions."""
    return max(stage.busy_ms for stage in stages)


def training_ms(work: Round) -> float:
    """Time of all batches; equation (4), and its own form for a single node."""
    start_ms = _mean([owner.first_forward_ms + owner.up_ms(owner.first_bytes) for owner in work.owners])
    end_ms = _mean([owner.first_backward_ms + owner.down_ms(owner.first_bytes) for owner in work.owners])
    if len(work.stages) == 1:
        return start_ms + work.num_tasks * work.stages[0].busy_ms + end_ms
    empty_ms = sum(stage.busy_ms for stage in work.stages)
    return start_ms + empty_ms + (work.num_tasks - 1) * full_ms(work.stages) + end_ms


def averaging_ms(num_owners: int, averaging: Averaging) -> float:
    """Averaging of the owners' parts: the last upload, the sum, all downloads one after the other; equation (5)."""
    transfer_ms = MS_PER_S * averaging.bytes_per_owner / averaging.link_bytes_per_s
    return transfer_ms + averaging.compute_ms + num_owners * transfer_ms


def round_ms(work: Round, averaging: Averaging) -> float:
    """Time of a round, training and averaging; equation (6)."""
    return training_ms(work) + averaging_ms(len(work.owners), averaging)


def loop_ms(stages: Sequence[Stage], owner: OwnerLoad, hop_ms: Sequence[float] = ()) -> float:
    """Round trip of one batch of one owner that is alone: computing, four transfers on its link, `hop_ms` both ways.

    `hop_ms`: transfer time between consecutive nodes, in one direction. Updates are off the path.
    """
    own_ms = owner.first_forward_ms + owner.last_ms + owner.first_backward_ms
    links_ms = owner.up_ms(owner.first_bytes + owner.last_bytes) + owner.down_ms(owner.first_bytes + owner.last_bytes)
    return own_ms + links_ms + sum(stage.forward_ms + stage.backward_ms for stage in stages) + 2 * sum(hop_ms)


def training_lower_bound_ms(work: Round, hop_ms: Sequence[float] = ()) -> float:
    """No schedule trains faster: each owner's batches one after the other, the busiest node's tasks likewise."""
    slowest_loop_ms = max(loop_ms(work.stages, owner, hop_ms) for owner in work.owners)
    return max(work.batches * slowest_loop_ms, work.num_tasks * saturated_ms(work.stages))


def saturation_owners(work: Round, hop_ms: Sequence[float] = ()) -> float:
    """K*: with fewer owners the pipeline is never full, and equation (4) is too low."""
    return _mean([loop_ms(work.stages, owner, hop_ms) for owner in work.owners]) / full_ms(work.stages)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
