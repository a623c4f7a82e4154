"""The positions that a set of nodes can reach along the chain: the dynamic program of the exact planner.

A state is the number of nodes of each class in use. For a set of allowed segments (say, those under caps on the forward
and on the backward time) one sweep finds every position that each state can reach:

    reached[used + one of class c, end]  if  reached[used, start] and allowed[c, start, end]

A sweep is a few matrix products, so that the planner can try many caps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raysplit.schedulers.cuts.problem import CutProblem
from raysplit.schedulers.cuts.segments import Bools, Floats, Segments

MAX_STATES = 1 << 16

Index = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Space:
    """The states and the steps between them.

    Attributes:
        used: [S, C], nodes of each class in use.
        steps: (class, states before, states after), ordered so that a state is complete before it is left.
        final: [S], states in which a plan may end.
        price_per_hour: [S], price of the nodes in use.
        starts: [R], possible first cuts.
        ends: [R, P], possible last cuts for each first cut.
    """

    used: Index
    steps: tuple[tuple[int, Index, Index], ...]
    final: Bools
    price_per_hour: Floats
    starts: Index
    ends: Bools


def space_of(problem: CutProblem, segments: Segments) -> Space:
    """Enumerate the states of `problem`. Raises ValueError if it has too many different nodes for this method."""
    counts = [len(nodes) for nodes in segments.classes]
    if (size := math.prod(count + 1 for count in counts)) > MAX_STATES:
        raise ValueError(
            f"{len(problem.nodes)} nodes of {len(counts)} classes make {size} sets, and the dynamic program takes at "
            f"most {MAX_STATES}; use solve_ilp, or give equal nodes the same description"
        )
    used = np.indices([count + 1 for count in counts]).reshape(len(counts), -1).T
    strides = np.array([math.prod(count + 1 for count in counts[c + 1 :]) for c in range(len(counts))])
    total = used.sum(axis=1)
    steps = []
    for layer in range(len(problem.nodes)):
        for c, count in enumerate(counts):
            before = np.flatnonzero((total == layer) & (used[:, c] < count))
            if before.size:
                steps.append((c, before, before + strides[c]))
    prices = np.array([nodes[0].kind.price_per_hour for nodes in segments.classes])
    starts = np.flatnonzero(segments.owner_fits.any(axis=1))
    return Space(
        used=used,
        steps=tuple(steps),
        final=total == len(problem.nodes) if problem.use_all_nodes else total > 0,
        price_per_hour=used @ prices,
        starts=starts,
        ends=segments.owner_fits[starts],
    )


def sweep(space: Space, allowed: Bools) -> Bools:
    """Compute the positions [S, R, P] that each state reaches from each start over the `allowed` segments [C, P, P]."""
    num_positions = allowed.shape[-1]
    edges = allowed.astype(np.float32)
    reached = np.zeros((len(space.used), len(space.starts), num_positions), dtype=bool)
    reached[0, np.arange(len(space.starts)), space.starts] = True
    for c, before, after in space.steps:
        rows = reached[before].reshape(-1, num_positions).astype(np.float32)
        reached[after] |= (rows @ edges[c] > 0).reshape(len(before), len(space.starts), num_positions)
    return reached


def complete(space: Space, reached: Bools) -> Bools:
    """Compute the final states [S] that reach a possible last cut."""
    return space.final & (reached & space.ends).any(axis=(1, 2))


def trace(space: Space, allowed: Bools, reached: Bools, state: int) -> tuple[list[int], list[int]]:
    """Trace one way to `state` back: the positions of its cuts and the class of each node, in pipeline order."""
    row, end = (int(i) for i in np.argwhere(reached[state] & space.ends)[0])
    cuts, classes = [end], list[int]()
    arrivals = [
        (c, int(source), int(target))
        for c, before, after in reversed(space.steps)
        for source, target in zip(before, after, strict=True)
    ]
    for c, source, target in arrivals:
        if target == state and (starts := np.flatnonzero(reached[source, row] & allowed[c, :, cuts[-1]])).size:
            state = source
            cuts.append(int(starts[-1]))
            classes.append(c)
    return cuts[::-1], classes[::-1]
