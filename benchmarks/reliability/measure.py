"""What reliability costs and what it is worth: checkpoints, recovery, faults survived, memory over many rounds.

* checkpoints: processor seconds per round with one after every round against none, in turns, in percent (medians);
* recovery: seconds that a run on Ray takes longer when a process dies in it, the start of its successor among them;
* faults: deaths at calls drawn at random of parties drawn at random, in one process: how many struck, and how many runs
  ended with the undisturbed bits, by method;
* kills: the same on Ray, where the process dies in which the party lives, and all parties of its place with it;
* soak: private memory of this process and of all places over hundreds of rounds.

    python benchmarks/reliability/measure.py checkpoints|recovery|faults|kills|soak [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

from raysplit.cluster.contract import Cluster, Handle, PartySpec
from raysplit.cluster.faults import Fault, FaultyCluster, end_process
from raysplit.cluster.layout import lay_out
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.cluster.on_ray.connect import RayOptions, connect, disconnect
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.runs.callback import Callback
from raysplit.runs.folder import RunFolder
from raysplit.runs.result import Result
from raysplit.seeding import generator
from raysplit.training.loop import run
from raysplit.training.session import checkpoints_of

_MIB = 2**20
ALGORITHMS: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "splitnn": {"cut": 1},
    "splitfed_v1": {"cut": 1},
    "splitfed_v2": {"cut": 1},
    "minibatch_sfl": {"cut": 1},
    "mpsl": {"cuts": [1, 2]},
    "mtsl": {"cut": 1},
    "mtl_split": {},
    "one_by_one": {},
    "tag": {"affinity_every": 1},
    "mas": {"affinity_every": 1, "merged_rounds": 1},
}
_DIGITS: dict[str, Any] = {"data": {"name": "digits"}, "partition": {"name": "iid", "num_owners": 4}}
_ROOMS: dict[str, Any] = {
    "model": {"name": "mas", "width": 0.05},
    "data": {"name": "rooms", "tasks": "sdn", "image_size": 32, "num_buildings": 2, "num_train": 16},
    "partition": {"name": "natural_id", "num_owners": 2},
}
_ROOMS["data"] |= {"num_val": 4, "num_test": 4}
_SHAPES: dict[str, Any] = {
    "model": {"name": "multi_task", "backbone": "small"},
    "data": {"name": "shapes3d", "grid": "reduced", "tasks": ["scale", "shape"], "num_train": 80, "num_test": 16},
    "partition": {"num_owners": 1},
}
_OTHER_DATA = {"mtl_split": _SHAPES, "one_by_one": _ROOMS, "tag": _ROOMS, "mas": _ROOMS}


def configured(name: str, rounds: int, model: str = "cnn8", **sections: Any) -> dict[str, Any]:
    more = {"batch_size": 8, "loss": "task_sum"} if _OTHER_DATA.get(name) is _ROOMS else {}
    return {
        **_OTHER_DATA.get(name, {**_DIGITS, "model": {"name": model}}),
        "algorithm": {"name": name, **ALGORITHMS[name]},
        "training": {"rounds": rounds, "optimizer": {"lr": 0.05, "momentum": 0.9}, **more},
        "evaluation": {"every": rounds},
        **sections,
    }


def go(tree: dict[str, Any], cluster: Cluster, folder: Path | None = None) -> Result:
    config = check_config(tree)
    written = RunFolder(folder) if folder else None
    kept = checkpoints_of(config, folder) if folder else None
    return asyncio.run(run(build(config), cluster, folder=written, checkpoints=kept))


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
    from raysplit.cluster.on_ray.cluster import Places, RayCluster

    connect(RayOptions(address="local", num_cpus=2, object_store_bytes=200 * _MIB))
    places = Places(timeout_s=60)
    tree = configured("minibatch_sfl", rounds)

    def timed(faults: list[Fault]) -> tuple[float, Result]:
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


class Counted:
    """A party whose calls are counted."""

    def __init__(self, *, name: str, build: Callable[..., Any], calls: Counter[str], **given: Any) -> None:
        self._name = name
        self._calls = calls
        self._party = build(name=name, **given)

    def __getattr__(self, verb: str) -> Any:
        self._calls[self._name] += 1
        return getattr(self._party, verb)


class Membership(LocalCluster):
    """Counts the calls of all parties, those that come later among them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def _made(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        arguments = [{"build": party.build, "calls": self.calls, **party.arguments} for party in parties]
        counted = [replace(p, build=Counted, arguments=given) for p, given in zip(parties, arguments, strict=True)]
        return super()._made(counted)


MakeFaulty = Callable[[Sequence[Fault]], FaultyCluster]


def in_this_process(drawn: Sequence[Fault]) -> FaultyCluster:
    return FaultyCluster(LocalCluster(), drawn)


def kills(number: int) -> dict[str, Any]:
    from raysplit.cluster.on_ray.cluster import Places, RayCluster

    connect(RayOptions(address="local", num_cpus=4, object_store_bytes=200 * _MIB))
    places = Places(timeout_s=60)
    layout = partial(lay_out, num_places=2, cpus=2)
    try:
        return faults(number, lambda drawn: FaultyCluster(RayCluster(layout, places=places), drawn, death=end_process))
    finally:
        places.close()
        disconnect()


def faults(number: int, make: MakeFaulty = in_this_process) -> dict[str, Any]:
    """One death in a run, two in every third; of any party, at any of its calls, a few turns of the loop into it."""
    rng = generator(0, "faults")
    found: dict[str, Counter[str]] = {name: Counter() for name in ALGORITHMS}
    rolls = {name: Membership() for name in ALGORITHMS}
    whole = {name: go(configured(name, 3, "mlp"), roll) for name, roll in rolls.items()}
    for index in range(number):
        name = list(ALGORITHMS)[index % len(ALGORITHMS)]
        calls = {party: count for party, count in rolls[name].calls.items() if "evaluator" not in party}
        drawn = []
        for _ in range(2 if index % 3 == 2 else 1):
            party = str(rng.choice(sorted(calls)))
            drawn.append(Fault(party=party, at_call=int(rng.integers(calls[party])) + 1, turns=int(rng.integers(12))))
        cluster = make(drawn)
        result = go(configured(name, 3, "mlp"), cluster)
        same = equal(result, whole[name])
        found[name].update(runs=1, faults=len(drawn), losses_healed=cluster.num_healed, same_bits=same)
    total = sum(found.values(), Counter())
    return {"total": dict(total), "by_method": {name: dict(counts) for name, counts in found.items()}}


def equal(a: Result, b: Result) -> bool:
    return all(torch.equal(a.states[label][key], value) for label in b.states for key, value in b.states[label].items())


class Memory(Callback):
    """Private memory after every round, of this process and of its children together."""

    def __init__(self) -> None:
        self.mib: list[float] = []

    def round_ended(self, _: Any) -> None:
        me = psutil.Process()
        places = [p for p in me.children(recursive=True) if "Place" in " ".join(p.cmdline())]
        self.mib.append(sum(p.memory_full_info().uss for p in [me, *places]) / _MIB)


def soak(rounds: int) -> dict[str, Any]:
    from raysplit.cluster.on_ray.cluster import RayCluster

    connect(RayOptions(address="local", num_cpus=2, object_store_bytes=200 * _MIB))
    memory = Memory()
    config = check_config(configured("minibatch_sfl", rounds, "mlp"))
    try:
        cluster = RayCluster(partial(lay_out, num_places=2, cpus=2))
        asyncio.run(run(build(config), cluster, callbacks=[memory]))
    finally:
        disconnect()
    quarter = max(1, rounds // 4)
    second, last = (statistics.median(part) for part in (memory.mib[quarter : 2 * quarter], memory.mib[-quarter:]))
    return {"rounds": rounds, "second_quarter_mib": second, "last_quarter_mib": last, "curve_mib": memory.mib[::10]}


MEASUREMENTS = {
    "checkpoints": (checkpoints, 10),
    "recovery": (recovery, 4),
    "faults": (faults, 88),
    "kills": (kills, 33),
    "soak": (soak, 300),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=MEASUREMENTS)
    parser.add_argument("--rounds", type=int, help="rounds of a run, or runs of `faults` and `kills`")
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
