"""Small runs of every algorithm, to be disturbed and compared with undisturbed ones."""

from __future__ import annotations

from typing import Any

from mas_support import BASE as MULTI_TASK_BASE
from support import same

from raysplit.cluster.faults import Fault
from raysplit.runs.callback import Callback
from raysplit.runs.folder import Row
from raysplit.runs.result import Result

KEPT = {
    "rounds": 3,
    "batch_size": 16,
    "owner_optimizer_state": "keep",
    "optimizer": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3},
}
FORGOTTEN = {**KEPT, "owner_optimizer_state": "restart", "server_optimizer_state": "restart"}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "local": {},
    "centralised": {},
    "fedavg": {},
    "fedprox": {"proximal_mu": 0.3},
    "fedem": {},
    "splitnn": {"cut": 1},
    "splitfed_v1": {"cut": 1},
    "splitfed_v1 on two servers": {"name": "splitfed_v1", "cut": 1, "num_servers": 2},
    "splitfed_v2": {"cut": 1},
    "minibatch_sfl": {"cut": 1, "sync_every": 3},
    "minibatch_sfl on two servers": {"name": "minibatch_sfl", "cut": 1, "num_servers": 2},
    "mpsl": {"cuts": [1, 2]},
    "mpsl with routes": {"name": "mpsl", "cuts": [1, 2], "owner_routes": {"owner-1": {"cuts": [2, 3]}}},
    "mtsl": {"cut": 1, "learning_rates": {"every": 4}},
    "mtl_split": {},
    "mtl_split on two nodes": {"name": "mtl_split", "num_nodes": 2},
}
MULTI_TASK: dict[str, dict[str, Any]] = {
    "all_in_one": {},
    "all_in_one with gradnorm": {"method": "gradnorm"},
    "one_by_one": {},
    "one_by_one in turn": {"run_groups": "in_turn"},
    "tag": {"affinity_every": 1},
    "hoa": {"num_groups": 1},
    "mas": {"affinity_every": 1, "merged_rounds": 1},
    "mas in turn": {"affinity_every": 1, "merged_rounds": 1, "run_groups": "in_turn"},
    "mas side by side": {"affinity_every": 1, "merged_rounds": 1, "run_groups": "concurrent"},
    "mas when ready": {"affinity_every": 1, "merged_rounds": "auto", "window": 1, "min_correlation": -1},
    "mas with a new task": {"affinity_every": 1, "merged_rounds": 1, "new_tasks": {"k": 1}, "trial_rounds": 1},
}
"""Methods that train groups of tasks; in one process groups have copies of the owners unless told otherwise."""
EVERYTHING = [*ALGORITHMS, *MULTI_TASK]
_MULTI_TASK_ROUNDS = {"tag": 2, "hoa": 2, "mas with a new task": 5}
_MTL_SPLIT: dict[str, Any] = {
    "model": {"name": "multi_task", "backbone": "small", "hidden": 16},
    "data": {"name": "shapes3d", "grid": "reduced", "tasks": ["scale", "shape", "floor_hue"], "num_train": 80},
    "partition": {"num_owners": 1},
}
_MTL_SPLIT["data"] |= {"val_fraction": 0.2, "num_test": 16}
NODES = {"mpsl": "node-1", "mpsl with routes": "node-1", "splitfed_v1 on two servers": "server-1"}
NODES |= {"minibatch_sfl on two servers": "server-0"}
NODES |= {"mtl_split": "heads-2", "mtl_split on two nodes": "heads-0"}
WITHOUT_NODE = {"local", "centralised", "fedavg", "fedprox", "fedem"}
WITHOUT_AGGREGATOR = {"local", "centralised", "splitnn", "mtsl", "mtl_split", "mtl_split on two nodes"}
_FIRST = "aggregator-s+d+k@0"
_MULTI_TASK_DEATHS = {
    "one_by_one": [
        Fault(party="owner-0@d@0", verb="train", at_call=2, turns=4),
        Fault(party="aggregator-d@0", at_call=6),
    ],
    "one_by_one in turn": [
        Fault(party="owner-0", verb="train", at_call=5, turns=4),
        Fault(party="aggregator-k@0", at_call=6),
    ],
    "tag": [Fault(party=_FIRST, at_call=5), Fault(party="owner-1@s+k@2", verb="train", at_call=2, turns=3)],
    "hoa": [Fault(party="owner-0@d+k@0", verb="train", at_call=2, turns=4), Fault(party=_FIRST[:-1] + "2", at_call=3)],
    "mas": [
        Fault(party="owner-0", verb="train", at_call=1, turns=4),
        Fault(party=_FIRST, at_call=3),
        Fault(party="owner-1@d+k@1", verb="train", at_call=2, turns=5),
        Fault(party="aggregator-d+k@1", at_call=1),
        Fault(party="aggregator-s@1", at_call=6),
    ],
    "mas in turn": [Fault(party="owner-0", verb="train", at_call=3, turns=2), Fault(party="aggregator-s@1", at_call=5)],
    "mas side by side": [
        Fault(party="owner-0", verb="train", at_call=5, turns=6),
        Fault(party="aggregator-s@1", at_call=5),
    ],
    "mas when ready": [Fault(party=_FIRST, at_call=9), Fault(party="owner-0@s@2", verb="train", at_call=1, turns=4)],
    "mas with a new task": [
        Fault(party="owner-0@d@1", verb="train", at_call=1, turns=4),
        Fault(party="aggregator-d+k@2", at_call=6),
        Fault(party="owner-1@d+k@3", verb="train", at_call=2, turns=2),
    ],
}


def deaths(name: str) -> list[Fault]:
    """An owner in the midst of a round, a node, the aggregator: each where the algorithm has one."""
    if name in MULTI_TASK:
        merged = [Fault(party="owner-0", verb="train", at_call=2, turns=4), Fault(party=_FIRST, at_call=6)]
        return _MULTI_TASK_DEATHS.get(name, merged)
    found = [Fault(party="owner-0", verb="run_round", at_call=2, turns=4)]
    if name not in WITHOUT_NODE:
        found += [Fault(party=NODES.get(name, "server"), at_call=12)]
    if name not in WITHOUT_AGGREGATOR:
        found += [Fault(party="aggregator", at_call=6)]
    return found


def changes(name: str, training: dict[str, Any] = KEPT, **more: Any) -> dict[str, Any]:
    """Sections of the settings that make this a run of the algorithm."""
    if name in MULTI_TASK:
        return _multi_task(name, training, **more)
    options = ALGORITHMS[name]
    if "mtl_split" in name:
        return {**_MTL_SPLIT, "algorithm": {"name": "mtl_split", **options}, "training": training, **more}
    model = {"name": "mlp", "hidden": [16, 12, 8], "dtype": "float64"} if "mpsl" in name else {"name": "mlp"}
    model |= {"hidden": [16, 12, 8], "dtype": "float64"}
    return {"algorithm": {"name": name.split()[0], **options}, "training": training, "model": model, **more}


def _multi_task(name: str, training: dict[str, Any], **more: Any) -> dict[str, Any]:
    kept = {"owner_optimizer_state": training["owner_optimizer_state"], "rounds": _MULTI_TASK_ROUNDS.get(name, 3)}
    base = {key: section for key, section in MULTI_TASK_BASE.items() if key != "cluster"}
    sections = {**base, "algorithm": {"name": name.split()[0], **MULTI_TASK[name]}}
    return {**sections, "training": {**MULTI_TASK_BASE["training"], **kept}, **more}


def equal(a: Result, b: Result) -> bool:
    """The same bits, the same losses, the same traffic."""
    labels = a.states.keys() == b.states.keys() and all(same(a.states[k], b.states[k]) for k in a.states)
    return labels and [r["train_loss"] for r in a.rows] == [r["train_loss"] for r in b.rows] and a.links == b.links


class Killed(Exception):
    """Stands for whatever ends the driver."""


class Killer(Callback):
    """Ends the run once a round has been recorded."""

    def __init__(self, after: int) -> None:
        self._after = after

    def round_ended(self, row: Row) -> None:
        if row["round"] == self._after:
            raise Killed
