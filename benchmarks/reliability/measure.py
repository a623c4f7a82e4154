"""What reliability costs and what it is worth: checkpoints, recovery, faults survived, memory over many rounds.

* checkpoints: seconds per round with one after every round against none, the two in turns, in percent (medians);
* recovery: seconds that a run on Ray takes longer when a process dies in it, and a kept place's start among them;
* faults: so many drawn at random calls of random parties, in one process; how many runs end with the undisturbed bits;
* soak: private memory of this process and of all places over hundreds of rounds.

    python benchmarks/reliability/measure.py checkpoints|recovery|faults|soak [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

from raysplit.cluster.contract import Cluster
from raysplit.cluster.faults import Fault, FaultyCluster, end_process
from raysplit.cluster.launch import RayOptions, connect, disconnect
from raysplit.cluster.local import LocalCluster
from raysplit.cluster.topology import lay_out
from raysplit.data.streams import generator
from raysplit.train.config import check_config
from raysplit.train.folder import RunFolder
from raysplit.train.run import RunResult, run
from raysplit.train.session import checkpoints_of
from raysplit.train.setup import prepare

_MIB = 2**20
ALGORITHMS: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "splitnn": {"cut": 1},
    "splitfed_v1": {"cut": 1},
    "splitfed_v2": {"cut": 1},
    "minibatch_sfl": {"cut": 1},
    "mpsl": {"cuts": [1, 2]},
    "mtsl": {"cut": 1},
}


def configured(name: str, rounds: int, model: str = "cnn8", **sections: Any) -> dict[str, Any]:
    return {
        "model": {"name": model},
        "data": {"name": "digits"},
        "partition": {"name": "iid", "num_owners": 4},
        "algorithm": {"name": name, **ALGORITHMS[name]},
        "training": {"rounds": rounds, "optimizer": {"lr": 0.05, "momentum": 0.9}},
        "evaluation": {"every": rounds},
        **sections,
    }


def go(tree: dict[str, Any], cluster: Cluster, folder: Path | None = None) -> RunResult:
    config = check_config(tree)
    written = RunFolder(folder) if folder else None
    kept = checkpoints_of(config, folder) if folder else None
    return asyncio.run(run(config, prepare(config), cluster, folder=written, checkpoints=kept))


def checkpoints(rounds: int) -> dict[str, Any]:
    """Whole runs with and without, in turns; data and model are the same."""
    found: dict[str, list[float]] = {"with": [], "without": []}
    for turn in range(6):
        for kind, every in (("with", 1), ("without", None)):
            with tempfile.TemporaryDirectory() as folder:
                tree = configured("minibatch_sfl", rounds, reliability={"checkpoint_every": every})
                started = time.process_time()
                go(tree, LocalCluster(), Path(folder) / "run")
                if turn:  # the first is warm-up
                    found[kind].append((time.process_time() - started) / rounds)
    with_, without = (statistics.median(found[kind]) for kind in ("with", "without"))
    return {"with_s": with_, "without_s": without, "cost_percent": 100 * (with_ / without - 1)}


def recovery(rounds: int) -> dict[str, Any]:
    from raysplit.cluster.ray import Places, RayCluster

    connect(RayOptions(address="local", num_cpus=2, object_store_bytes=200 * _MIB))
    places = Places(timeout_s=60)
    tree = configured("minibatch_sfl", rounds)

    def timed(faults: list[Fault]) -> tuple[float, RunResult]:
        layout = partial(lay_out, num_places=2, cpus=2)
        cluster = FaultyCluster(RayCluster(layout, places=places), faults, death=end_process)
        started = time.perf_counter()
        result = go(tree, cluster)
        return time.perf_counter() - started, result

    try:
        timed([])
        pairs = [(timed([]), timed([Fault(party="server", at_call=40)])) for _ in range(3)]
    finally:
        places.close()
        disconnect()
    longer = [disturbed - plain for (plain, _), (disturbed, _) in pairs]
    same = [equal(a, b) for (_, a), (_, b) in pairs]
    return {"recovery_s": statistics.median(longer), "all_s": longer, "same_bits": all(same)}


def faults(number: int) -> dict[str, Any]:
    """Drawn faults: the party, the call, the place within it, and a second one in every third run."""
    rng = generator(0, "faults")
    whole = {name: go(configured(name, 3, "mlp"), LocalCluster()) for name in ALGORITHMS}
    survived, struck = 0, 0
    for index in range(number):
        name = list(ALGORITHMS)[index % len(ALGORITHMS)]
        config = check_config(configured(name, 3, "mlp"))
        parties = ["owner-0", "owner-1", "owner-2", "owner-3"]
        parties += [p for p in ("server", "node-1", "aggregator") if p in roles(name)]
        drawn = [
            Fault(
                party=str(rng.choice(parties)),
                at_call=int(rng.integers(1, 30)),
                turns=int(rng.integers(0, 12)),
                life=life,
            )
            for life in range(2 if index % 3 == 2 else 1)
        ]
        cluster = FaultyCluster(LocalCluster(), drawn)
        result = asyncio.run(run(config, prepare(config), cluster))
        struck += cluster.num_healed
        survived += equal(result, whole[name])
    return {"runs": number, "faults_struck": struck, "runs_with_the_undisturbed_bits": survived}


def roles(name: str) -> set[str]:
    return {
        "fedavg": {"aggregator"},
        "mpsl": {"node-1", "aggregator"},
        "splitnn": {"server"},
        "mtsl": {"server"},
    }.get(name, {"server", "aggregator"})


def equal(a: RunResult, b: RunResult) -> bool:
    return all(torch.equal(a.states[label][key], value) for label in b.states for key, value in b.states[label].items())


class Memory:
    """Private memory after every round, of this process and of its children together."""

    def __init__(self) -> None:
        self.mib: list[float] = []

    def started(self, *_: Any) -> None: ...

    def finished(self, _: Any) -> None: ...

    def round_done(self, _: Any) -> None:
        me = psutil.Process()
        places = [p for p in me.children(recursive=True) if "Place" in " ".join(p.cmdline())]
        self.mib.append(sum(p.memory_full_info().uss for p in [me, *places]) / _MIB)


def soak(rounds: int) -> dict[str, Any]:
    from raysplit.cluster.ray import RayCluster

    connect(RayOptions(address="local", num_cpus=2, object_store_bytes=200 * _MIB))
    memory = Memory()
    config = check_config(configured("minibatch_sfl", rounds, "mlp"))
    try:
        cluster = RayCluster(partial(lay_out, num_places=2, cpus=2))
        asyncio.run(run(config, prepare(config), cluster, observers=[memory]))
    finally:
        disconnect()
    quarter = max(1, rounds // 4)
    second, last = (statistics.median(part) for part in (memory.mib[quarter : 2 * quarter], memory.mib[-quarter:]))
    return {"rounds": rounds, "second_quarter_mib": second, "last_quarter_mib": last, "curve_mib": memory.mib[::10]}


MEASUREMENTS = {
    "checkpoints": (checkpoints, 10),
    "recovery": (recovery, 4),
    "faults": (faults, 42),
    "soak": (soak, 300),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=MEASUREMENTS)
    parser.add_argument("--rounds", type=int, help="rounds of a run, or runs of `faults`")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    measure, usual = MEASUREMENTS[given.what]
    found = measure(given.rounds or usual)
    print(json.dumps(found, indent=2))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
