"""Owners that read their own sources and learn several tasks, each of a kind of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from by_owner_support import SIZES, arrays, config, one_source, tree
from support import same

import raysplit
from raysplit.config.build import build, outlined
from raysplit.config.run import check_config
from raysplit.data.by_owner.agree import UNCHANGED

KINDS = {"shape": "classification", "size": {"kind": "regression", "weight": 0.5}}


@pytest.fixture
def several(clinics: Path) -> Path:
    """A class and a number for each sample; the second owner has none of the last class, and some without a number."""
    for index in range(len(SIZES)):
        found = several_targets(index, classes=2 if index == 1 else 3)
        if index == 1:
            found["size"][::3] = np.nan
        np.savez(clinics / f"clinic-{index}.npz", **found)
    own = [dict(np.load(clinics / f"clinic-{index}.npz")) for index in range(len(SIZES))]
    owner = np.concatenate([[f"clinic-{index}"] * len(found["x"]) for index, found in enumerate(own)])
    np.savez(clinics / "all.npz", owner=owner, **{key: np.concatenate([found[key] for found in own]) for key in own[0]})
    return clinics


def several_targets(index: int, **changes: Any) -> dict[str, Any]:
    found = arrays(index, **changes)
    return {"x": found["x"], "shape": found["y"], "size": found["x"].sum(axis=1), "split": found["split"]}


def with_kinds(described: dict[str, Any], kinds: Any = KINDS) -> dict[str, Any]:
    return described | {"data": described["data"] | {"tasks": kinds}}


@pytest.mark.parametrize(
    "method", [{"name": "fedavg"}, {"name": "minibatch_sfl", "cut": 1}, {"name": "mtsl", "cut": 1}]
)
def test_they_train_to_the_bits_of_one_file_with_a_partition(method: dict[str, Any], several: Path) -> None:
    """Such sources were told to name one target each."""
    by_owner = raysplit.train(with_kinds(tree(several, algorithm=method)))
    rehearsed = raysplit.train(with_kinds(one_source(several, algorithm=method)))
    for name, weights in rehearsed.states.items():
        assert same(by_owner.states[name], weights)
    for figure in ("test_rmse_size", "test_accuracy_shape", "test_loss"):
        assert by_owner.rows[-1][figure] == pytest.approx(rehearsed.rows[-1][figure], rel=1e-12)
    assert by_owner.rows[-1]["task_metric_size"] == "rmse"


def test_labels_alone_need_no_kinds(several: Path) -> None:
    """The owners have one, two and three classes of the second task."""
    sources = tree(several)["data"]["by_owner"]
    for index, source in enumerate(sources.values()):
        source["targets"] = ["shape", "kind"]
        found = {**np.load(several / f"clinic-{index}.npz")}
        kind = np.arange(len(found["x"])) % (index + 1)
        np.savez(several / f"clinic-{index}.npz", x=found["x"], shape=found["shape"], kind=kind)
    data = outlined(config(several, data={"by_owner": sources}, model={"name": "multi_task"})).data
    assert data.classes == {"shape": ("0", "1", "2"), "kind": ("0", "1", "2")}


def test_an_owner_with_fewer_classes_of_a_task_is_told_of(several: Path, caplog: pytest.LogCaptureFixture) -> None:
    build(check_config(with_kinds(tree(several))))
    assert "have 3 classes of shape, the largest label" in caplog.text
    assert "fewer: owner-1 (clinic-1) up to 1; see" in caplog.text


def test_an_owner_may_have_no_target_of_a_task(several: Path) -> None:
    """Its sums of that task are 0, and its training says nothing of it."""
    found = dict(np.load(several / "clinic-2.npz"))
    np.savez(several / "clinic-2.npz", **found | {"size": np.full(len(found["x"]), np.nan)})
    result = raysplit.train(with_kinds(tree(several)))
    assert np.isfinite(result.rows[-1]["test_rmse_size"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": np.ones((15, 2))}, r"about target size: owner-0 .*float32 \[\] and owner-2 .*float32 \[2\]"),
        ({"size": None}, r"data of owner-2 \(clinic-2, .*clinic-2.npz\): has .* and no 'size'"),
        ({"shape": np.array([0, 1, -1] * 5)}, r"owner-2 \(clinic-2, .*clinic-2.npz\): shape is -1 in row 2, and"),
        ({"shape": np.arange(15) / 2}, r"owner-2 \(clinic-2, .*clinic-2.npz\): shape is 0.5 in row 1, and"),
    ],
)
def test_owners_that_disagree_about_a_task_are_named(change: dict[str, Any], message: str, several: Path) -> None:
    found = dict(np.load(several / "clinic-2.npz")) | change
    np.savez(several / "clinic-2.npz", **{key: value for key, value in found.items() if value is not None})
    with pytest.raises(ValueError, match=message):
        build(check_config(with_kinds(tree(several))))


def words(owner: str) -> raysplit.DataSet:
    """Labels of two tasks with names, which one owner has in another order."""
    names = ("ill", "well") if owner == "clinic-1" else ("well", "ill")
    samples = raysplit.Samples(x=torch.ones(4, 3), y={"state": torch.tensor([0, 1, 0, 1]), "size": torch.rand(4)})
    classes = {"state": names}
    return raysplit.DataSet(
        train=samples, test=samples, num_classes=2, transform=UNCHANGED, eval_transform=UNCHANGED, classes=classes
    )


def test_owners_whose_classes_of_a_task_have_other_names_are_named(several: Path) -> None:
    sources = {f"clinic-{i}": f"{__name__}:words" for i in range(2)}
    said = r"the classes of state: owner-0 \(clinic-0.*has well, ill and owner-1 \(clinic-1.*has ill, well; number"
    with pytest.raises(ValueError, match=said):
        build(config(several, data={"by_owner": sources}))
