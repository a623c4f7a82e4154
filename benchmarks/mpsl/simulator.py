"""What the simulator says of MP-SL's testbed, and how fast it says it.

    python benchmarks/mpsl/simulator.py            # published epochs, owner mixes, planned against manual cuts
    python benchmarks/mpsl/simulator.py --speed    # 10,000 owners, 32 batches each, 4 nodes

Published: Tirana, Lalis and Chatzopoulos, 2024, arXiv 2402.00208, and "Estimating the Training Time in Single- and
Multi-Hop Split Federated Learning", EdgeSys 2025. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any

from raysplit.api import simulate
from raysplit.config.build import build_dry
from raysplit.config.run import RunConfig, check_config
from raysplit.prediction.closed_form import closed_form
from raysplit.schedulers.cuts.baselines import manual_split, sequential_round_ms
from raysplit.schedulers.cuts.profiles import load_profile, node_kinds, owner_times
from raysplit.schedulers.cuts.solve import ComputeNodeSpec, CutProblem, solve_dp
from raysplit.schedulers.cuts.time_model import OwnerLoad, Stage

BATCHES = 32
OWNER_MBIT = 8


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--owners", type=int, default=10_000)
    arguments = parser.parse_args()
    if arguments.speed:
        speed(arguments.owners)
    else:
        epochs()
        mixes()
        planned_and_manual()


def raspberries(
    cuts: list[int], owners: dict[str, int], model: str = "resnet101_mpsl", *, queue: str = "fifo"
) -> RunConfig:
    """Owners on Raspberry Pis, nodes on virtual machines in one cluster, 32 batches of 128 per owner and round."""
    pi = {"bandwidth_mbit_per_s": OWNER_MBIT}
    return check_config(
        {
            "model": {"name": model},
            "partition": {"name": "iid", "num_owners": sum(owners.values())},
            "algorithm": {"name": "mpsl", "cuts": cuts, "queue": queue},
            "training": {"batch_size": 128, "local_epochs": 2},
            "topology": {
                "devices": {
                    "pi": {"profile": f"{model}_d1", **pi},
                    **{name: {"times": name, **pi} for name in owner_times()},
                    "vm": {"profile": f"{model}_vm", "bandwidth_mbit_per_s": 7130},
                },
                "owners": owners,
                "nodes": ["vm"] * (len(cuts) - 1),
                "aggregator": "pi",
                "samples_per_owner": BATCHES // 2 * 128,
            },
        }
    )


def epochs() -> None:
    """Epochs of the homogeneous testbed beside equation (6) and the published measurements."""
    real = {"[2, 26, 35]": (6.2, 11.7, 17.4, 23.7, 30.2), "[2, 16, 26, 35]": (5.0, 9.7, 14.2, 19.2, 26.1)}
    print("| cuts | owners | simulated min | equation (6) min | published, measured min |")
    print("| --- | --- | --- | --- | --- |")
    for text, published in real.items():
        cuts = [int(cut) for cut in text.strip("[]").split(",")]
        for owners, minutes in zip((10, 20, 30, 40, 50), published, strict=True):
            config = raspberries(cuts, {"pi": owners})
            formulas = closed_form(build_dry(config))
            assert formulas is not None
            simulated = simulate(config).round_s[0] / 60
            print(f"| {text} | {owners} | {simulated:.2f} | {formulas.round_s / 60:.2f} | {minutes} |")


def mixes() -> None:
    """Thirty owners, more and more of them 2.3 times slower; sequential split learning beside it."""
    cases = [(cuts, queue) for cuts in ([2, 26, 35], [2, 16, 26, 35]) for queue in ("fifo", "fair")]
    titles = [f"{len(cuts) - 1} nodes, {queue} min" for cuts, queue in cases]
    print(f"\n| fast + slow owners | {' | '.join(titles)} | sequential SplitNN min |\n| {'--- | ' * 6}")
    rows = []
    profile = load_profile("resnet101_mpsl_vm")
    middle = profile.units[2:35]
    node = Stage(
        forward_ms=sum(unit.forward_ms for unit in middle),
        backward_ms=sum(unit.backward_ms for unit in middle),
        update_ms=sum(unit.update_ms for unit in middle),
    )
    for slow in (0, 10, 15, 20, 30):
        mix = {name: count for name, count in (("d1_slow", 30 - slow), ("d2_slow", slow)) if count}
        minutes = [simulate(raspberries(cuts, mix, queue=queue)).round_s[0] / 60 for cuts, queue in cases]
        loads = [_load(name, profile.units) for name, count in mix.items() for _ in range(count)]
        sequential = sequential_round_ms(node, loads, BATCHES, handover_ms=0.0) / 60_000
        rows.append((*minutes, sequential))
        print(f"| {30 - slow} + {slow} | {' | '.join(f'{m:.2f}' for m in minutes)} | {sequential:.1f} |", flush=True)
    spreads = [(max(column) - min(column)) / min(column) for column in zip(*rows, strict=True)]
    print(f"| longest over shortest | {' | '.join(f'{spread:+.1%}' for spread in spreads)} |")


def _load(name: str, units: Any) -> OwnerLoad:
    times = owner_times()[name]
    return OwnerLoad(
        first_forward_ms=times.first_forward_ms,
        last_ms=times.last_ms,
        first_backward_ms=times.first_backward_ms,
        first_bytes=units[1].activation_bytes,
        last_bytes=units[34].activation_bytes,
        up_bytes_per_s=times.link_bytes_per_s,
        down_bytes_per_s=times.link_bytes_per_s,
    )


def planned_and_manual() -> None:
    """Simulated epochs of planned and of manual cuts, 100 owners."""
    header = "| model, units, nodes | planned cuts | manual cuts | latency | planned min | manual min | epoch |"
    print(f"\n{header}\n| --- | --- | --- | --- | --- | --- | --- |")
    for model, units in (("resnet101_mpsl", (2, 35)), ("vgg19_mpsl", (1, 23)), ("vgg19_mpsl", (3, 21))):
        for num_nodes in (3, 4, 5):
            kind = node_kinds()["vm_32gib_x1"]
            nodes = tuple(ComputeNodeSpec(name=f"node-{i}", kind=kind) for i in range(1, num_nodes + 1))
            problem = CutProblem(profile=load_profile(f"{model}_vm"), owners=1, nodes=nodes, units=units)
            plans = solve_dp(problem), manual_split(problem)
            minutes = [simulate(raspberries(list(p.cuts), {"pi": 100}, model)).round_s[0] / 60 for p in plans]
            latency = plans[0].objective_ms / plans[1].objective_ms - 1
            print(
                f"| {model}, {units[0]}-{units[1]}, {num_nodes} | {list(plans[0].cuts)} | {list(plans[1].cuts)} | "
                f"{latency:+.1%} | {minutes[0]:.1f} | {minutes[1]:.1f} | {minutes[0] / minutes[1] - 1:+.1%} |",
                flush=True,
            )


def speed(owners: int) -> None:
    """Wall and processor time, and the largest memory of this process, libraries included."""
    config = raspberries([2, 10, 18, 26, 35], {"pi": owners})
    before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wall, cpu = time.perf_counter(), time.process_time()
    simulation = simulate(config)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{owners} owners x {BATCHES} batches x 4 nodes: {len(simulation.log)} events in {wall:.1f} s wall, "
        f"{cpu:.1f} s CPU; {peak_mib:.0f} MiB at most, {before_mib:.0f} MiB of it before the simulation; a round takes "
        f"{simulation.round_s[0] / 3600:.1f} h"
    )


if __name__ == "__main__":
    main()
