"""Every method with every kind of data, cuts at both ends, two servers, and owners that differ: `CELLS`, `outcome`.

``docs/matrix.md`` says which of them train; `combinations_page` makes it from these cells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from raysplit.cluster.contract import Handle, PartySpec
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.data.rendered.rooms import load_rooms
from raysplit.data.samples import DataSet, Samples
from raysplit.data.transforms import ToUnit
from raysplit.runs.result import Result
from raysplit.training.loop import run

Tree = dict[str, dict[str, Any]]
NUM_OWNERS = 3
SIDES = (40, 16)
"""Number of training samples, and of test samples."""


# -- data ------------------------------------------------------------------------------------------------------------


def _pictures(size: int, channels: int, count: int) -> Tensor:
    draw = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, channels, size, size), generator=draw, dtype=torch.uint8)


@cache
def one_label() -> DataSet:
    """Pictures of four classes."""
    train, test = (Samples(x=_pictures(4, 1, n), y=torch.arange(n) % 4) for n in SIDES)
    return DataSet(train=train, test=test, num_classes=4, transform=ToUnit(), eval_transform=ToUnit())


@cache
def several_labels() -> DataSet:
    """Pictures with two labels each."""
    classes = {"shape": ("cube", "ball", "cone"), "color": ("red", "blue")}
    train, test = (
        Samples(x=_pictures(8, 3, n), y={task: torch.arange(n) % len(names) for task, names in classes.items()})
        for n in SIDES
    )
    unit = ToUnit()
    return DataSet(
        train=train, test=test, val=test, num_classes=3, classes=classes, transform=unit, eval_transform=unit
    )


@cache
def dense() -> DataSet:
    """Pictures of rooms with a segmentation and a depth."""
    return load_rooms(tasks="sd", image_size=8, num_buildings=3, num_train=14, num_val=2, num_test=2)


def shares(labels: Any, num_owners: int, rng: np.random.Generator, *, sizes: Sequence[int]) -> list[Any]:
    """Divide samples among owners of these sizes; a single owner gets all."""
    if num_owners == 1:
        return [np.arange(len(labels))]
    return np.split(np.arange(sum(sizes)), np.cumsum(sizes[:-1]))


def write_shards(root: Path) -> dict[str, Path]:
    """Write the pictures of one label as a file per owner, for owners of each of `SIZES`; return the folders."""
    data, folders = one_label(), {}
    for name, sizes in [*SIZES.items(), (ALONE, (SIDES[0],))]:
        folders[name] = root / name.replace(" ", "-")
        (folders[name] / "train").mkdir(parents=True)
        for index, part in enumerate(np.split(np.arange(sum(sizes)), np.cumsum(sizes[:-1]))):
            _write(data.train.take(part), folders[name] / "train" / f"{index}.parquet")
        _write(data.test, folders[name] / "test.parquet")
    return folders


def _write(samples: Samples, path: Path) -> None:
    assert isinstance(samples.x, Tensor)
    assert isinstance(samples.y, Tensor)
    pq.write_table(pa.table({"x": (samples.x / 255).tolist(), "y": samples.y.numpy()}), path)


# -- settings --------------------------------------------------------------------------------------------------------

DENSE: Tree = {"training": {"loss": "task_sum"}}
MLP = {"name": "mlp", "hidden": [6, 5]}
KINDS: Mapping[str, Tree] = {
    "one label": {"data": {"name": "combinations:one_label"}, "model": MLP},
    "several labels": {
        "data": {"name": "combinations:several_labels"},
        "model": {"name": "multi_task", "backbone": "small", "hidden": 4},
    },
    "dense tasks": {
        "data": {"name": "combinations:dense"},
        "model": {"name": "mas", "encoder": "mas_support:tiny_encoder", "decoder": "mas_support:tiny_decoder"},
        **DENSE,
    },
    "streamed": {"data": {"name": "shards"}, "model": MLP},
}
ALONE, ALIKE = "alone", "alike"
SIZES = {ALIKE: (14, 13, 13), "unequal sizes": (25, 11, 4), "an owner with one sample": (20, 19, 1)}
OWNERS: Mapping[str, Tree] = {
    ALIKE: {},
    "`owners.domain`": {"owners": {"domain": "permutation"}},
    "`owners.pixel_noise`": {"owners": {"noisy": 1, "pixel_noise": 0.5}},
    "`owners.label_noise`": {"owners": {"noisy": 1, "label_noise": 1.0}},
    "unequal sizes": {},
    "an owner with one sample": {},
}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A method, with a cut and a number of servers where it has them."""

    method: str
    cut: str = ""
    servers: str = ""
    more: Tree = field(default_factory=dict, hash=False)


def _ends(method: str, *servers: int) -> list[Variant]:
    """Cuts with something, nothing and everything at the owner; it may send its inputs where it has no layer."""
    cuts: list[tuple[str, Any, dict[str, Any]]] = [
        ("`auto`", "auto", {}),
        ("0, nothing at the owner", 0, {"send_inputs": ["x"]}),
        ("3, everything at the owner", 3, {}),
    ]
    return [
        Variant(
            method=method,
            cut=words,
            servers=str(number),
            more={"algorithm": {"cut": cut, **({"num_servers": number} if number > 1 else {})}, "model": model},
        )
        for number in servers
        for words, cut, model in cuts
    ]


VARIANTS = [
    *(Variant(method=name) for name in ("centralised", "local", "fedavg", "fedprox", "fednova", "fedem")),
    *_ends("splitnn", 1),
    *_ends("splitfed_v1", 1, 2),
    *_ends("splitfed_v2", 1),
    *_ends("minibatch_sfl", 1, 2),
    Variant(method="mpsl", cut="[1, 2]", servers="1", more={"algorithm": {"cuts": [1, 2]}}),
    Variant(
        method="mpsl",
        cut="[0, 2], nothing in front at the owner",
        servers="1",
        more={"algorithm": {"cuts": [0, 2]}, "model": {"send_inputs": ["x"]}},
    ),
    Variant(
        method="mpsl",
        cut="[1, 2, 3], nothing behind at the owner",
        servers="2",
        more={"algorithm": {"cuts": [1, 2, 3]}},
    ),
    *_ends("mtsl", 1),
    Variant(method="mtl_split"),
    *(Variant(method=name, more=DENSE) for name in ("all_in_one", "one_by_one", "tag", "hoa")),
    Variant(method="mas", more={"algorithm": {"merged_rounds": 1}, "training": {"rounds": 2, "loss": "task_sum"}}),
]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination."""

    variant: Variant
    kind: str
    owners: str = ALIKE


CELLS = [
    Cell(variant=variant, kind=kind, owners=owners)
    for variant in VARIANTS
    for kind in KINDS
    for owners in OWNERS
    if not (variant.method == "mtl_split" and owners == "unequal sizes")  # it has one owner
]


def settings(cell: Cell, shards: Mapping[str, Path]) -> Tree:
    """The settings of a cell; ``shards`` are the folders that `write_shards` has written."""
    num_owners = 1 if cell.variant.method == "mtl_split" else NUM_OWNERS
    size = cell.owners if cell.owners in SIZES else ALIKE
    tree: Tree = {
        "partition": {"name": "combinations:shares", "num_owners": num_owners, "sizes": list(SIZES[size])},
        "algorithm": {"name": cell.variant.method},
        "training": {"rounds": 1, "batch_size": 8, "optimizer": {"lr": 0.05}},
        "cluster": {"kind": "local"},
    }
    for other in (KINDS[cell.kind], OWNERS[cell.owners], cell.variant.more):
        tree |= {section: {**tree.get(section, {}), **values} for section, values in other.items()}
    if cell.kind == "streamed":
        tree["partition"] = {"name": "natural_id", "num_owners": num_owners}
        tree["data"]["root"] = str(shards[ALONE if num_owners == 1 else size])
    elif num_owners == 1 and size != ALIKE:
        tree["data"]["train_samples"] = 1
    return tree


# -- running ---------------------------------------------------------------------------------------------------------


class _Watched(LocalCluster):
    started = False

    async def deploy(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        self.started = True
        return await super().deploy(parties)


def outcome(tree: Tree) -> Result | str:
    """Train, or return the message of a refusal. Raises whatever else happens, a refusal after the start included."""
    cluster = _Watched()
    try:
        return asyncio.run(run(build(check_config(tree)), cluster))
    except ValueError as refused:
        if cluster.started:
            raise AssertionError(f"refused after the start: {refused}") from refused
        return str(refused)
