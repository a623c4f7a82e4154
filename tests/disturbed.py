"""Small runs of every algorithm, to be disturbed and compared with undisturbed ones."""

from __future__ import annotations

from typing import Any

from support import same

from raysplit.train.folder import Row
from raysplit.train.run import RunResult

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
}
NODES = {"mpsl": "node-1", "mpsl with routes": "node-1", "splitfed_v1 on two servers": "server-1"}
NODES |= {"minibatch_sfl on two servers": "server-0"}
WITHOUT_NODE = {"local", "centralised", "fedavg", "fedprox", "fedem"}
WITHOUT_AGGREGATOR = {"local", "centralised", "splitnn", "mtsl"}


def changes(name: str, training: dict[str, Any] = KEPT, **more: Any) -> dict[str, Any]:
    options = ALGORITHMS[name]
    model = {"name": "mlp", "hidden": [16, 12, 8], "dtype": "float64"} if "mpsl" in name else {"name": "mlp"}
    model |= {"hidden": [16, 12, 8], "dtype": "float64"}
    return {"algorithm": {"name": name.split()[0], **options}, "training": training, "model": model, **more}


def equal(a: RunResult, b: RunResult) -> bool:
    """The same bits, the same losses, the same traffic."""
    labels = a.states.keys() == b.states.keys() and all(same(a.states[k], b.states[k]) for k in a.states)
    return labels and [r["train_loss"] for r in a.rows] == [r["train_loss"] for r in b.rows] and a.traffic == b.traffic


class Killed(Exception):
    """Stands for whatever ends the driver."""


class Killer:
    """Ends the run once a round has been recorded."""

    def __init__(self, after: int) -> None:
        self._after = after

    def started(self, *_: Any) -> None:
        pass

    def round_done(self, row: Row) -> None:
        if row["round"] == self._after:
            raise Killed

    def finished(self, _: RunResult) -> None:
        pass
