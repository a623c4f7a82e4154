"""How fast the planner is, and what its plans are worth; prints the tables of benchmarks/mpsl/README.md.

    python benchmarks/planner.py

Tirana, Lalis and Chatzopoulos, "MP-SL: Multihop Parallel Split Learning", 2024, arXiv 2402.00208. No training: the
shipped profiles of the paper are planned, and the time of a round is the core term r B K (L_fwd + L_back).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from raysplit.schedulers.cuts.baselines import horizontal_scaling, manual_split
from raysplit.schedulers.cuts.plan import Plan
from raysplit.schedulers.cuts.profiles import BYTES_PER_GIB, NodeKind, load_profile
from raysplit.schedulers.cuts.solve import ComputeNodeSpec, CutProblem, pareto_front, solve_dp, solve_ilp

RESNET, VGG = "resnet101_mpsl_vm", "vgg19_mpsl_vm"
PRICE_PER_GIB_HOUR = 0.012
SOLVER_LOG = [
    ((16, 16, 16, 16, 16), (1, 1, 1, 1, 1)),
    ((16, 16, 16, 8, 8), (1, 1, 1, 2, 2)),
    ((16, 16, 8, 8, 8), (1, 1, 2, 2, 2)),
    ((8, 8, 8, 8, 8), (2, 2, 2, 2, 2)),
    ((16, 16, 16, 16, 4), (1, 1, 1, 1, 2)),
    ((4, 8, 8, 8, 8), (2, 2, 2, 2, 2)),
    ((4, 8, 8, 8, 16), (2, 2, 2, 2, 1)),
    ((4, 8, 16, 16, 16), (2, 2, 1, 1, 1)),
]


def offered(kinds: Iterable[tuple[float, float]]) -> tuple[ComputeNodeSpec, ...]:
    """Nodes of (memory GiB, slowdown), priced by memory."""
    return tuple(
        ComputeNodeSpec(
            name=f"vm-{index}",
            kind=NodeKind(
                name=f"{gib:g} GiB",
                memory_bytes=round(gib * BYTES_PER_GIB),
                slowdown=slowdown,
                price_per_hour=PRICE_PER_GIB_HOUR * gib,
            ),
        )
        for index, (gib, slowdown) in enumerate(kinds, start=1)
    )


def problem(profile: str, units: tuple[int, int], owners: int, kinds: Iterable[tuple[float, float]]) -> CutProblem:
    return CutProblem(profile=load_profile(profile), owners=owners, nodes=offered(kinds), units=units)


def median_s(solve: Callable[[CutProblem], Plan], question: CutProblem) -> float:
    """Median of three runs."""
    laps = []
    for _ in range(3):
        start_s = time.perf_counter()
        solve(question)
        laps.append(time.perf_counter() - start_s)
    return sorted(laps)[1]


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def head(*titles: str) -> None:
    print()
    row(*titles)
    row(*["---"] * len(titles))


def speed() -> None:
    head("instance", "optimum ms", "CBC s", "dynamic programme s")
    questions = {
        f"VGG-19, 150 owners, {gib} GiB, slowdown {slowdown}": problem(
            VGG, (3, 21), 150, zip(gib, slowdown, strict=True)
        )
        for gib, slowdown in SOLVER_LOG
    }
    whole = (1, 36)
    questions["ResNet-101, 12 equal nodes"] = problem(RESNET, whole, 1, [(64, 1)] * 12)
    questions["ResNet-101, 12 nodes of 3 kinds"] = problem(RESNET, whole, 1, [(64, 1), (64, 2), (64, 4)] * 4)
    questions["ResNet-101, 12 nodes that all differ"] = problem(RESNET, whole, 1, [(64, 1 + i / 7) for i in range(12)])
    for name, question in questions.items():
        plans = (solve_ilp(question), solve_dp(question))
        assert abs(plans[0].objective_ms - plans[1].objective_ms) < 1e-6 * plans[1].objective_ms
        row(
            name,
            f"{plans[1].objective_ms:.2f}",
            f"{median_s(solve_ilp, question):.2f}",
            f"{median_s(solve_dp, question):.3f}",
        )


UNEQUAL = ((1.0, 1.0, 2.0), (1.0, 2.0, 4.0), (1.0, 1.0, 2.0, 2.0), (2.0, 1.0, 4.0, 1.0), (1.0, 1.5, 2.0, 3.0, 4.0))


def benefit() -> None:
    head(
        "model, units, slowdowns",
        "planned ms",
        "by hand ms",
        "latency",
        "planned min",
        "by hand min",
        "side by side min",
    )
    for name, profile, units in (("ResNet-101", RESNET, (2, 35)), ("VGG-19", VGG, (1, 23)), ("VGG-19", VGG, (3, 21))):
        for slowdowns in (*((1.0,) * count for count in (3, 4, 5)), *UNEQUAL):
            question = problem(profile, units, 100, [(1000, slowdown) for slowdown in slowdowns])
            planned, manual = solve_dp(question), manual_split(question)
            row(
                f"{name}, {units[0]}-{units[1]}, {' '.join(f'{slowdown:g}' for slowdown in slowdowns)}",
                f"{planned.objective_ms:.1f}",
                f"{manual.objective_ms:.1f}",
                f"{100 * (planned.objective_ms / manual.objective_ms - 1):+.1f} %",
                f"{planned.round_ms / 60_000:.1f}",
                f"{manual.round_ms / 60_000:.1f}",
                f"{horizontal_scaling(question).round_ms / 60_000:.1f}",
            )


def memory() -> None:
    head("nodes (GiB, slowdown), 150 owners of VGG-19, 3-21", "planned ms", "by hand ms", "by hand fits")
    for gib, slowdown in SOLVER_LOG:
        question = problem(VGG, (3, 21), 150, zip(gib, slowdown, strict=True))
        planned, manual = solve_dp(question), manual_split(question)
        row(
            f"{gib}, {slowdown}",
            f"{planned.objective_ms:.1f}",
            f"{manual.objective_ms:.1f}",
            "yes" if manual.fits else "no",
        )


def price() -> None:
    head("ms per batch", "against fastest", "price per hour", "against fastest", "price per round", "nodes")
    question = replace(problem(VGG, (3, 21), 150, [(16, 1)] * 5 + [(8, 2)] * 5 + [(4, 2)] * 5), use_all_nodes=False)
    front = pareto_front(question)
    for plan in front:
        kinds = [share.kind for share in plan.shares]
        row(
            f"{plan.objective_ms:.1f}",
            f"{100 * (plan.objective_ms / front[0].objective_ms - 1):+.1f} %",
            f"{plan.price_per_hour:.3f}",
            f"{100 * (plan.price_per_hour / front[0].price_per_hour - 1):+.1f} %",
            f"{plan.price_per_round:.3f}",
            ", ".join(
                f"{kinds.count(kind)} x {kind}" for kind in sorted(set(kinds), key=lambda kind: -float(kind.split()[0]))
            ),
        )


def whole_replicas() -> None:
    head("nodes (GiB, slowdown), 150 owners of VGG-19, 3-21", "planned pipeline min", "side by side min")
    for gib, slowdown in SOLVER_LOG:
        question = problem(VGG, (3, 21), 150, zip(gib, slowdown, strict=True))
        row(
            f"{gib}, {slowdown}",
            f"{solve_dp(question).round_ms / 60_000:.1f}",
            f"{horizontal_scaling(question).round_ms / 60_000:.1f}",
        )


if __name__ == "__main__":
    speed()
    benefit()
    memory()
    price()
    whole_replicas()
