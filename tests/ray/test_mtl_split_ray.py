"""MTL-Split from training to the answer: heads on Ray train to the bits of one machine, and the run's folder is served.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982).
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from support import same, weights

from raysplit.cli.serving.edge import edge
from raysplit.cluster.contract import Cluster
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.cluster.on_ray.cluster import RayCluster
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.models.classifier.export import load_serving, prepared
from raysplit.runs.folder import RunFolder
from raysplit.runs.result import Result
from raysplit.training.loop import run

Make = Callable[..., RayCluster]
LABELS = ["scale", "shape", "wall_hue"]
KINDS = {"scale": "regression", "shape": "classification", "wall_hue": "classification"}
SETTINGS: dict[str, Any] = {
    "seed": 5,
    "model": {"name": "multi_task", "backbone": "mobilenet_v3_small", "hidden": 16},
    "data": {
        "name": "shapes3d",
        "grid": "reduced",
        "tasks": KINDS,
        "noise": "uniform_0.05",
        "num_train": 24,
        "num_test": 8,
    },
    "partition": {"num_owners": 1},
    "algorithm": {"name": "mtl_split"},
    "training": {
        "rounds": 2,
        "batch_size": 8,
        "optimizer": {"name": "adamw", "lr": 1e-3},
        "owner_optimizer_state": "keep",
    },
}


def train(cluster: Cluster, folder: Path | None = None, tasks: Any = KINDS) -> Result:
    torch.set_num_threads(1)
    config = check_config({**SETTINGS, "data": {**SETTINGS["data"], "tasks": tasks}})
    written = RunFolder(folder) if folder is not None else None
    return asyncio.run(run(build(config), cluster, folder=written))


@pytest.mark.parametrize("tasks", [LABELS, KINDS], ids=["labels", "kinds"])
def test_heads_on_ray_train_to_the_bits_of_one_process(tasks: Any, make_cluster: Make) -> None:
    here, there = train(LocalCluster(), tasks=tasks), train(make_cluster(2), tasks=tasks)
    assert same(there, here)
    assert there.links == here.links
    assert [row["val_loss"] for row in there.rows] == [row["val_loss"] for row in here.rows]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs") / "mtl"
    train(LocalCluster(), place)
    return place


@pytest.fixture(scope="module")
def server(ray_session: dict[str, float], folder: Path) -> Iterator[str]:
    from raysplit.serving.server import ServerOptions, start, stop

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start(folder, ServerOptions(port=port))
    yield f"http://127.0.0.1:{port}"
    stop()


def test_the_folder_of_a_run_answers_for_picture_files(folder: Path, server: str, tmp_path: Path) -> None:
    pictures = build(check_config(SETTINGS)).setting.owners["owner-0"].shard.x[:2]
    paths = [tmp_path / f"{k}.png" for k in range(2)]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path)
    arguments = [str(folder), *map(str, paths), "--server", server, "--json"]
    told = json.loads(CliRunner().invoke(edge, arguments, catch_exceptions=False).stdout)
    serving = load_serving(folder)
    for row, picture in zip(told["answers"], pictures, strict=True):
        with torch.inference_mode():
            whole = serving.model(prepared(picture[None], serving.meta))
        assert row["answered_by"] == "server"
        assert row["up_bytes"] == 44 + 2304 * 4
        mean, std = (values[0] for values in (serving.meta.units["scale"].mean, serving.meta.units["scale"].std))
        assert row["answers"]["scale"] == {"estimate": [float(whole["scale"].double()) * std + mean]}
        for task in ("shape", "wall_hue"):
            names = serving.meta.classes[task]
            best = int(whole[task].argmax())
            assert row["answers"][task]["class"] == names[best]
            assert row["answers"][task]["probability"] == float(whole[task][0].softmax(0)[best])


def test_the_weights_that_are_served_are_those_of_the_lowest_validation_loss(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    best = min(rows, key=lambda row: row["val_loss"])["round"]
    assert json.loads((folder / "summary.json").read_text())["best"]["round"] == best
    last = torch.load(folder / "last.pt", weights_only=True)
    assert same(last, load_serving(folder).model.state_dict()) == (best == len(rows))
    assert last.keys() == weights(train(LocalCluster())).keys()
