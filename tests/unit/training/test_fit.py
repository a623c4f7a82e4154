"""Batches that a model cannot train on are told before anything starts, with owner, size and way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import settings, train
from torch import Tensor, nn

from raysplit.api import train_config
from raysplit.config.run import check_config
from raysplit.runs.folder import read_summary


def normed(num_classes: int) -> nn.Module:
    """Batch norm before and after the first cut."""
    return nn.Sequential(
        nn.Linear(10, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, num_classes)
    )


def normed_late(num_classes: int) -> nn.Module:
    """Batch norm after the first cut alone."""
    return nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, num_classes))


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def sized(folder: Path, *sizes: int) -> dict[str, Any]:
    """Data of owners with these numbers of samples."""
    rng = np.random.default_rng(0)
    total = sum(sizes) + 20
    owner = np.concatenate([np.repeat(np.arange(len(sizes)), sizes), np.zeros(20, int)])
    split = np.where(np.arange(total) < sum(sizes), "train", "test")
    path = folder / f"{'-'.join(map(str, sizes))}.npz"
    x = rng.normal(size=(total, 10)).astype(np.float32)
    np.savez(path, x=x, y=np.arange(total) % 5, owner=owner, split=split)
    return {"data": {"name": str(path)}, "partition": {"name": "natural_id", "num_owners": len(sizes)}}


ALL = ["centralised", "local", "fedavg", "fedprox", "fedem", "splitnn", "splitfed_v1", "splitfed_v2", "minibatch_sfl"]


@pytest.mark.parametrize("name", [*ALL, "mpsl", "mtsl"])
def test_a_last_batch_of_one_sample_is_told_for_every_method(name: str, tmp_path: Path) -> None:
    """It failed in the middle of the first round, at an owner: "Expected more than 1 value per channel"."""
    algorithm: dict[str, Any] = {"name": name, **({"server_forward": "concat"} if name == "mtsl" else {})}
    algorithm |= {"cuts": [1, 4]} if name == "mpsl" else {"cut": 3} if "cut" in _options(name) else {}
    more = {"algorithm": algorithm, "model": {"name": "test_fit:normed"}}
    sizes = (33,) if name == "centralised" else (32, 33)
    which = "owner-0" if name == "centralised" else "owner-1"
    text = rf"{which} has 33 samples, of which batches of 16 leave one .*1\) cannot train on one sample; use training"
    with pytest.raises(ValueError, match=text):
        train(**more, **sized(tmp_path, *sizes))
    for rule in ("merge", "drop"):
        assert len(train(**more, **sized(tmp_path, *sizes), training__last_batch=rule).rows) == 2


def _options(name: str) -> dict[str, Any]:
    return check_config({"algorithm": {"name": name}}).algorithm.resolved_options().model_dump()


def test_an_owner_with_one_sample_is_told(tmp_path: Path) -> None:
    more = {"algorithm": {"name": "fedavg"}, "model": {"name": "test_fit:normed"}}
    for rule in ("keep", "merge", "drop"):
        with pytest.raises(ValueError, match=r"owner-1 has 1 sample in batches of 16, and .* use a partition that"):
            train(**more, **sized(tmp_path, 20, 1), training__last_batch=rule)
    single = {"rounds": 1, "batch_size": 1, "optimizer": {"lr": 0.1}}
    with pytest.raises(ValueError, match=r"owner-0 has 20 samples in batches of 1, and .*; use larger batches"):
        train(**more, **sized(tmp_path, 20, 20), training=single)


def test_models_that_can_train_on_one_sample_do(tmp_path: Path) -> None:
    assert train(algorithm={"name": "fedavg"}, **sized(tmp_path, 33, 1)).rows


def test_rows_that_a_server_joins_are_more_than_one(tmp_path: Path) -> None:
    """With all batch norm at the server of MiniBatch-SFL an owner's single sample meets those of the others."""
    late = {"model": {"name": "test_fit:normed_late"}, **sized(tmp_path, 33, 33)}
    assert train(algorithm={"name": "minibatch_sfl", "cut": 1}, **late).rows
    assert train(algorithm={"name": "mtsl", "cut": 1, "server_forward": "concat"}, **late).rows
    for options in ({"server_forward": "grad_avg"}, {"grad_source": "per_client"}):
        with pytest.raises(ValueError, match="owner-0 has 33 samples"):
            train(algorithm={"name": "minibatch_sfl", "cut": 1, **options}, **late)


def test_a_batch_that_is_never_reached_is_not_told(tmp_path: Path) -> None:
    more = {"algorithm": {"name": "fedavg"}, "model": {"name": "test_fit:normed"}, **sized(tmp_path, 33, 33)}
    assert train(**more, training__max_steps=2).rows


def test_owners_that_read_their_own_files_are_told_too(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("train/a", 32), ("train/b", 33), ("test", 20)):
        rows = {"x": rng.normal(size=(size, 10)).astype(np.float32).tolist(), "y": (np.arange(size) % 5).tolist()}
        pq.write_table(pa.table(rows), tmp_path / f"{name}.parquet")
    more: dict[str, Any] = {"data": {"name": "shards", "root": str(tmp_path)}, "model": {"name": "test_fit:normed"}}
    more |= {"partition": {"name": "natural_id", "num_owners": 2}, "algorithm": {"name": "fedavg"}}
    with pytest.raises(ValueError, match="owner-1 has 33 samples, of which batches of 16 leave one"):
        train(**more)
    assert train(**more, training__last_batch="merge").rows


def test_nothing_is_written_before_it_is_told(tmp_path: Path) -> None:
    config = check_config(
        settings(algorithm={"name": "fedavg"}, model={"name": "test_fit:normed"}, **sized(tmp_path, 33, 33))
    )
    with pytest.raises(ValueError, match="owner-0 has 33 samples"):
        train_config(config, folder=tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()
    assert read_summary(tmp_path / "run") == {}


def one_output() -> nn.Module:
    """A regression with one output, which keeps its dimension."""
    return nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 1))


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean square, as it is often written."""
    return ((outputs - targets) ** 2).mean()


def squared_flat(outputs: Tensor, targets: Tensor) -> Tensor:
    """The same of outputs without their dimension."""
    return squared(outputs[:, 0], targets)


def test_a_loss_that_broadcasts_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Outputs [32, 1] and targets [32] became differences [32, 32], and ended at the mean of the labels."""
    base = {"algorithm": {"name": "fedavg"}, "model": {"name": "test_fit:one_output"}, "training__rounds": 1}
    with pytest.raises(ValueError, match=r"outputs are float32 \[2, 1\] .*likely lead to incorrect results"):
        train(**base, training__loss="torch.nn.functional:l1_loss")
    train(**base, training__loss="test_fit:squared_flat")
    assert "the loss of two samples is not the mean" not in caplog.text
    train(**base, training__loss="test_fit:squared")
    assert "the loss of two samples is not the mean of their losses, as where [2, 1] and [2] broadcast" in caplog.text
    caplog.clear()
    train_config(check_config(settings(**base, training__loss="test_fit:squared")))
    assert caplog.text.count("the loss of two samples is not the mean") == 1
