"""Owners that read their own files: the same bits as from memory, few rows at hand, and nothing at the coordinator."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support import run_on, same, settings, train

from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.data.samples import Samples
from raysplit.data.sources.shards import GROUPS_AT_ONCE, StreamedShard, open_shards
from raysplit.seeding import generator
from raysplit.training.loop import run

ROWS_PER_GROUP = 8


def write(path: Path, x: Any, y: Any, rows_per_group: int = ROWS_PER_GROUP) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"x": x.reshape(len(x), -1).tolist(), "y": y})
    pq.write_table(table, path, row_group_size=rows_per_group)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three owners with 100, 40 and 7 samples of 10 numbers, five classes."""
    for index, size in enumerate((100, 40, 7)):
        draw = generator(1, "stream", index)
        write(tmp_path / "train" / f"{index}.parquet", draw.standard_normal((size, 10)), draw.integers(0, 5, size))
    draw = generator(1, "stream", "test")
    write(tmp_path / "test.parquet", draw.standard_normal((50, 10)), np.arange(50) % 5)
    return tmp_path


def streamed(root: Path | str, **changes: Any) -> dict[str, Any]:
    data = {"name": "shards", "root": str(root)}
    return {"data": data, "partition": {"name": "natural_id", "num_owners": 3}, **changes}


def in_memory(shard: StreamedShard) -> Samples:
    table = pq.read_table(shard.uri)
    x = np.asarray(table["x"].to_pylist(), np.float32)
    return Samples(x=torch.from_numpy(x), y=torch.tensor(table["y"].to_pylist()))


def test_samples_are_those_of_the_file_in_any_order(root: Path) -> None:
    shard = open_shards(str(root)).shards[0]
    whole = in_memory(shard)
    for indices in ([3], [99, 0, 50, 3, 3], list(range(100)), generator(0, "order").permutation(100)):
        taken, expected = shard.take(indices), whole.take(indices)
        assert torch.equal(taken.x, expected.x)
        assert torch.equal(taken.y, expected.y)  # type: ignore[arg-type]


def test_an_epoch_visits_every_sample_once_in_a_drawn_order(root: Path) -> None:
    shard = open_shards(str(root)).shards[0]
    order = shard.shuffled(generator(7, "epoch"))
    assert sorted(order) == list(range(100))
    assert list(order) != list(range(100))
    assert list(order) == list(shard.shuffled(generator(7, "epoch")))
    assert list(order) != list(shard.shuffled(generator(8, "epoch")))


def test_a_shard_is_read_with_few_rows_in_memory(tmp_path: Path) -> None:
    """A hundred row groups; an epoch reads each of them once and holds eight at most."""
    write(tmp_path / "big.parquet", np.zeros((800, 2)), np.zeros(800, np.int64))
    shard = StreamedShard(str(tmp_path / "big.parquet"), [ROWS_PER_GROUP] * 100)
    held, reads = [], 0
    seen: set[int] = set()
    for batch in np.array_split(shard.shuffled(generator(0, "epoch")), 50):
        shard.take(batch)
        held.append(shard.num_rows_held)
        reads += len(set(shard._groups) - seen)
        seen = set(shard._groups)
    assert max(held) == 2 * GROUPS_AT_ONCE * ROWS_PER_GROUP
    assert reads == 100


def test_streamed_and_loaded_shards_train_to_the_same_bits(root: Path) -> None:
    """In stored order, where both visit the samples alike."""
    training = {"rounds": 2, "batch_size": 16, "shuffle": False, "optimizer": {"lr": 0.1}}
    config = check_config(settings(**streamed(root, training=training)))
    experiment = build(config)
    loaded = {
        name: replace(owner, shard=in_memory(owner.shard))  # type: ignore[arg-type]
        for name, owner in experiment.setting.owners.items()
    }
    there = asyncio.run(run(experiment, LocalCluster()))
    here = asyncio.run(run(replace(experiment, setting=replace(experiment.setting, owners=loaded)), LocalCluster()))
    assert same(there, here)


@pytest.mark.parametrize("name", ["fedavg", "minibatch_sfl"])
def test_owners_train_from_a_uri(name: str, root: Path) -> None:
    changes = streamed(f"file://{root}", algorithm={"name": name})
    result = run_on(LocalCluster(), **changes)
    assert same(result, train(**streamed(root, algorithm={"name": name})))
    assert result.rows[0]["num_owners"] == 3
    assert result.rows[-1]["train_loss"] < 2


def test_a_shard_travels_without_its_samples(root: Path) -> None:
    shard = open_shards(str(root)).shards[0]
    empty = len(pickle.dumps(shard))
    shard.take(range(60))
    assert len(pickle.dumps(shard)) == empty < 600
    again = pickle.loads(pickle.dumps(shard))
    assert (len(again), again.num_rows_held) == (100, 0)
    assert torch.equal(again.take([5]).x, shard.take([5]).x)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partition__num_owners": 2}, "has 3 files.* set partition.name=natural_id and partition.num_owners=3"),
        ({"partition__name": "iid"}, "the partition is iid over 3 owners"),
        (
            {"data__train_samples": 5},
            "data.train_samples is 5, which does not apply to owners that read",
        ),
        ({"data__root": None}, "data.root is missing"),
        ({"data__root": "/nowhere"}, "has no folder train"),
        ({"data__root": "ftp9://x/y"}, "cannot be opened"),
        ({"algorithm": {"name": "centralised"}}, "this method needs all samples at once"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str, root: Path) -> None:
    tree = {**streamed(root), **changes}
    base = {key: tree.pop(key) for key in ("data", "partition")}
    with pytest.raises(ValueError, match=message):
        train(**base, **tree)


def test_a_file_without_labels_is_refused(root: Path) -> None:
    pq.write_table(pa.table({"x": [[1.0]]}), root / "train" / "3.parquet")
    with pytest.raises(ValueError, match=r"3.parquet has the columns \['x'\] and lacks \['y'\]"):
        open_shards(str(root))


def test_test_samples_may_name_the_file_of_their_owner(root: Path) -> None:
    """Models of owners are then tested on the owners' own samples; stranger is nobody here."""
    table = pq.read_table(root / "test.parquet")
    owners = np.array(["0", "2", "stranger"])[np.arange(50) % 3]
    pq.write_table(table.append_column("owner", pa.array(owners)), root / "test.parquet")
    setting = build(check_config(settings(**streamed(root)))).setting
    assert [None if d.test is None else len(d.test) for d in setting.owners.values()] == [17, None, 17]
    for name, side in (("local", "own"), ("fedavg", "all")):
        row = train(algorithm={"name": name}, **streamed(root)).rows[-1]
        assert (row["tested_on"], row["owners_tested"]) == (side, 2)
        assert "majority_accuracy" not in row  # only the owners read their labels
    pq.write_table(table.append_column("owner", pa.array(["stranger"] * 50)), root / "test.parquet")
    with pytest.raises(ValueError, match=r"names the owners stranger and train/ has the files 0, 1, 2"):
        open_shards(str(root))


def test_classes_of_training_files_count_too(root: Path) -> None:
    """The footers say the largest label, so that a class without test samples has an output as well."""
    write(root / "train" / "3.parquet", np.zeros((4, 10)), np.array([0, 1, 6, 2]))
    assert open_shards(str(root)).outline.num_classes == 7
    with pytest.raises(ValueError, match=r"3\.parquet: column y has the label 6 and there are 5 classes"):
        open_shards(str(root), num_classes=5)
