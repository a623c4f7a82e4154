"""Claims that are decided without training: what a plan gives, and what is sent and held by a split network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raysplit.claims.claim import Decision
from raysplit.schedulers.cuts.baselines import manual_split
from raysplit.schedulers.cuts.problem import ComputeNodeSpec, CutProblem
from raysplit.schedulers.cuts.profiles import BYTES_PER_GIB, NodeKind, load_profile
from raysplit.schedulers.cuts.solve import solve_dp

Found = tuple[Decision, str]
"""A decision, and what was found in words."""
RESNET, VGG = "resnet101_mpsl_vm", "vgg19_mpsl_vm"
CHAINS = ((RESNET, (2, 35)), (VGG, (1, 23)), (VGG, (3, 21)))
"""The profiles and units of the MP-SL paper."""
NO_LIMIT_GIB = 1000.0


def cut_problem(
    profile: str, units: tuple[int, int], slowdowns: Sequence[float], gib: Sequence[float] = (), owners: int = 100
) -> CutProblem:
    """Return the problem of a published profile on nodes of these slowdowns and memories; no limit where none is given.

    Args:
        profile: name of a shipped profile.
        units: first and last unit that the nodes run.
        slowdowns: of each node, against the machine of the profile.
        gib: memory of each node.
        owners: number of data owners.
    """
    memories = gib or [NO_LIMIT_GIB] * len(slowdowns)
    nodes = tuple(
        ComputeNodeSpec(
            name=f"node-{number}",
            kind=NodeKind(
                name=f"{memory:g} GiB, slowdown {slowdown:g}",
                memory_bytes=round(memory * BYTES_PER_GIB),
                slowdown=slowdown,
                price_per_hour=0.0,
            ),
        )
        for number, (slowdown, memory) in enumerate(zip(slowdowns, memories, strict=True), 1)
    )
    return CutProblem(profile=load_profile(profile), owners=owners, nodes=nodes, units=units)


EQUAL = tuple((1.0,) * count for count in (3, 4, 5))
UNEQUAL = ((1.0, 1.0, 2.0), (1.0, 2.0, 4.0), (1.0, 1.0, 2.0, 2.0), (2.0, 1.0, 4.0, 1.0), (1.0, 1.5, 2.0, 3.0, 4.0))


def _gains(nodes: Sequence[Sequence[float]]) -> Iterator[float]:
    for profile, units in CHAINS:
        for slowdowns in nodes:
            problem = cut_problem(profile, units, slowdowns)
            yield 100 * (1 - solve_dp(problem).objective_ms / manual_split(problem).objective_ms)


def planner_on_equal_nodes() -> Found:
    """Compare the planner with a careful split by hand on equal nodes without memory limits."""
    gains = sorted(_gains(EQUAL))
    text = f"{gains[0]:.1f} to {gains[-1]:.1f} % of pipeline latency in {len(gains)} instances, 0 in "
    text += f"{sum(gain < 0.05 for gain in gains)} of them"
    return "shown" if gains[-1] >= 40 else "refuted", text


def planner_on_unequal_nodes() -> Found:
    """Compare them on nodes of different speed, which the hand takes in the order offered, in proportion to speed."""
    gains = sorted(_gains(UNEQUAL))
    median = gains[len(gains) // 2]
    text = f"{gains[0]:.1f} to {gains[-1]:.1f} % of pipeline latency in {len(gains)} instances, median {median:.1f}"
    better = sum(gain > 0.5 for gain in gains)
    return "shown" if gains[0] >= -1e-6 and better > len(
        gains
    ) / 2 else "refuted" if not better else "not decided", text


MEMORY = (
    ((1, 1, 1, 1, 1), (16, 16, 16, 16, 16)),
    ((1, 1, 1, 2, 2), (16, 16, 16, 8, 8)),
    ((1, 1, 2, 2, 2), (16, 16, 8, 8, 8)),
    ((2, 2, 2, 2, 2), (8, 8, 8, 8, 8)),
    ((1, 1, 1, 1, 2), (16, 16, 16, 16, 4)),
    ((2, 2, 2, 2, 2), (4, 8, 8, 8, 8)),
    ((2, 2, 2, 2, 1), (4, 8, 8, 8, 16)),
    ((2, 2, 1, 1, 1), (4, 8, 16, 16, 16)),
)
"""Slowdowns and memories of the instances in the authors' solver log: VGG-19, 150 owners, units 3 to 21."""


def planner_under_memory_limits() -> Found:
    """Count the instances of the authors' solver log in which a careful split by hand does not fit the memories."""
    problems = [cut_problem(VGG, (3, 21), slow, gib, owners=150) for slow, gib in MEMORY]
    unfit = [not manual_split(problem).fits for problem in problems]
    gains = [
        100 * (1 - solve_dp(problem).objective_ms / manual_split(problem).objective_ms)
        for problem, does_not_fit in zip(problems, unfit, strict=True)
        if not does_not_fit
    ]
    rest = f"; in the others it is {min(gains):.1f} to {max(gains):.1f} % faster" if gains else ""
    text = f"the split by hand does not fit in {sum(unfit)} of {len(problems)} instances, the planner's always{rest}"
    return "shown" if any(unfit) or min(gains, default=0) > 0 else "refuted", text


PICTURE_BYTES, PAPER_Z_MB = 120_532_860, 1.5
"""Bytes of a picture of the paper's FACES data, and what it says of the smashed data."""


def smashed_data_of_a_picture() -> Found:
    """Count the bytes of Z_b of EfficientNet-B0, and its time on a gigabit link against that of the raw picture."""
    from raysplit.serving.cost.deployments import model_sizes
    from raysplit.serving.cost.report import cost_report
    from raysplit.serving.links import EdgeLink

    report = cost_report(
        model_sizes("efficientnet_b0", (3, 2, 6), 224, 256, "flat"),
        [EdgeLink(rate_bit_per_s=1e9)],
        input_bytes=PICTURE_BYTES,
    )
    z_bytes = report["z_bytes"]["float32"]
    raw_ms, z_ms = (8 * size / 1e9 * 1000 for size in (PICTURE_BYTES, z_bytes))
    text = f"{PICTURE_BYTES:,} to {z_bytes:,} bytes, {raw_ms:.2f} to {z_ms:.3f} ms of a gigabit link, computation apart"
    return "shown" if z_ms < 0.13 * raw_ms else "refuted", text


def memory_of_three_tasks() -> Found:
    """Compare the weights of one shared backbone with those of three networks, which is what weights can save."""
    from raysplit.serving.cost.deployments import model_sizes

    sizes = model_sizes("efficientnet_b0", (3, 2, 6), 224, 256, "flat")
    whole = 100 * (1 - sizes.shared_parameters / sizes.separate_parameters)
    edge = 100 * (1 - sizes.backbone_parameters / sizes.separate_parameters)
    text = f"-{whole:.0f} % of all weights, -{edge:.0f} % of those at the edge where heads are served elsewhere; the "
    return "not decided", text + "paper's ratio counts memory that it does not describe"
