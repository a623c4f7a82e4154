"""FedAvg in Flower's simulation; runs in an environment of its own, which `flower.py` starts (flwr is none of ours).

The model is that of raysplit, by import; data and initial weights come in a file, so both sides train the same thing.
Prints one JSON object: seconds of every round, from the choice of the clients to their average.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

sys.path.insert(0, str(Path(__file__).parents[2]))
from raysplit.models.nets.small_nets import cnn8


@cache
def stored(path: str) -> dict[str, Any]:
    """The shards of all owners and the settings, once in every process."""
    return dict(np.load(path))


def main() -> None:
    path, num_owners, rounds, cohort, cpus, weights = sys.argv[1], *map(int, sys.argv[2:6]), sys.argv[6]
    round_s: list[float] = []
    client, server = ClientApp(), ServerApp()

    @client.train()
    def train(message: Message, context: Context) -> Message:
        torch.set_num_threads(1)
        data, owner = stored(path), int(context.node_config["partition-id"])
        x, y = torch.from_numpy(data["x"][owner]), torch.from_numpy(data["y"][owner])
        model = cnn8(tuple(x.shape[1:]), int(data["num_classes"]))
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        optimizer = torch.optim.SGD(model.parameters(), lr=float(data["lr"]))
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        metrics = MetricRecord({"loss": loss.item(), "num-examples": len(y)})
        content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
        return Message(content=content, reply_to=message)

    class Timed(FedAvg):
        def configure_train(
            self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
        ) -> Iterable[Message]:
            self.began_s = time.perf_counter()
            return super().configure_train(server_round, arrays, config, grid)

        def aggregate_train(
            self, server_round: int, replies: Iterable[Message]
        ) -> tuple[ArrayRecord | None, MetricRecord | None]:
            replies = list(replies)
            assert len(replies) == cohort
            assert not any(reply.has_error() for reply in replies)
            averaged = super().aggregate_train(server_round, replies)
            round_s.append(time.perf_counter() - self.began_s)
            return averaged

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        data = stored(path)
        initial = {key[2:]: torch.from_numpy(value) for key, value in data.items() if key.startswith("w:")}
        strategy = Timed(
            fraction_train=cohort / num_owners,
            fraction_evaluate=0.0,
            min_train_nodes=cohort,
            min_evaluate_nodes=0,
            min_available_nodes=num_owners,
        )
        result = strategy.start(grid=grid, initial_arrays=ArrayRecord(initial), num_rounds=rounds)
        torch.save(result.arrays.to_torch_state_dict(), weights)

    run_simulation(
        server_app=server,
        client_app=client,
        num_supernodes=num_owners,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {
                "address": "local",  # never somebody else's
                "num_cpus": cpus,
                "include_dashboard": False,
                "object_store_memory": 256 * 2**20,
            },
        },
    )
    print(json.dumps({"round_s": round_s}))


def run() -> None:
    """Whatever happens, this process ends: Flower's server thread would wait for ever."""
    try:
        main()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
