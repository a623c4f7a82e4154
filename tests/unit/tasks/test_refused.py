"""Options, metrics and targets that a task refuses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import raysplit
from raysplit.cli.training.train import result_line
from raysplit.data.by_owner.agree import UNCHANGED
from raysplit.data.datasets import load_dataset
from raysplit.data.reading import Reading
from raysplit.data.samples import DataSet, Samples
from raysplit.experiment.several.section import TaskConfig, TaskSettings
from raysplit.experiment.tasks import checked_task
from raysplit.tasks import make_task


@pytest.mark.parametrize(
    ("kind", "metric", "says"),
    [
        ("regression", "SpearmanCorrCoef", "is no sum over elements"),
        ("segmentation", "MeanIoU", "miou, which segmentation has"),
        ("classification", "MulticlassAccurracy", "did you mean 'MulticlassAccuracy'"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_metrics_that_are_no_sums_are_refused(kind: str, metric: str, says: str) -> None:
    pytest.importorskip("torchmetrics")
    with pytest.raises(ValueError, match=says):
        make_task(kind, 3, metrics=[f"torchmetrics:{metric}"])


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("regression", {"loss": "l3"}, "task.loss is 'l3', and regression trains with mse or l1 or huber"),
        ("regression", {"primary": "accuracy"}, "regression has the figures rmse, loss, mae, r2"),
        ("regression", {"ignore_index": 3}, "mark missing ones with NaN"),
        ("regression", {"mean": (1.0,), "std": (0.0,)}, "standard deviations are above 0"),
        ("classification", {"metrics": ["f1"]}, "a further metric is named torchmetrics:NAME"),
    ],
)
def test_options_that_do_not_fit_are_refused(kind: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_task(kind, 1, **options)


@pytest.mark.parametrize(
    ("kind", "y", "says"),
    [
        (
            "classification",
            torch.tensor([0, 12]),
            r"y of owner-3, row 1: 12; classes are 0\.\.3, and -100 where there is none",
        ),
        ("segmentation", torch.full((1, 2, 2), 9), r"y of owner-3, row 0, position \(0, 0\): 9, and 3 more like it"),
        ("language_model", torch.tensor([[0, -3]]), "row 0, position 1: -3"),
        ("multi_label", torch.tensor([[0.0, 0.5]]), "row 0, position 1: 0.5; labels are 0 or 1"),
        ("regression", torch.tensor([0.0, math.inf]), "row 1: inf; numbers are finite"),
        (
            "classification",
            torch.tensor([0.5]),
            "float32 of shape .1., and classification takes one class index .*; task: regression",
        ),
        ("regression", torch.zeros(1, 2, 2, dtype=torch.long), "task: segmentation would fit"),
        ("segmentation", torch.tensor([1]), "task: classification would fit"),
    ],
)
def test_targets_that_do_not_fit_are_named(kind: str, y: Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_task(kind, 4).check(y, "y of owner-3")


def test_one_label_for_each_sample_is_named_where_several_are_wanted(tmp_path: Path) -> None:
    """It was taken for labels of one class: "y of training sample 7 is 1 and there are 1 classes"."""
    y = np.arange(20) % 2
    np.savez(tmp_path / "one.npz", x=np.zeros((20, 3), np.float32), y=y)
    with pytest.raises(ValueError, match=r"multi_label takes 0 or 1 for each label .*; task: classification would fit"):
        load_dataset(str(tmp_path / "one.npz"), reading=Reading(task="multi_label"))


def in_hand(y: Any, num_classes: int, **changes: Any) -> dict[str, Any]:
    """Settings for samples in hand, at two owners."""
    y = torch.as_tensor(y)
    samples = Samples(x=torch.rand(len(y), 4), y=y)
    sides: dict[str, Any] = {"train": samples, "test": samples, "transform": UNCHANGED, "eval_transform": UNCHANGED}
    data = DataSet(**sides, num_classes=num_classes)
    settings = {"data": data, "model": "mlp", "partition": {"num_owners": 2, "name": "iid"}, "algorithm": "fedavg"}
    return {**settings, "training": {"rounds": 1, "batch_size": 4}, "cluster": "local", **changes}


def test_a_negative_label_of_samples_in_hand_is_named() -> None:
    """Without a task it ended in torch's "Target -3 is out of bounds" in the midst of a round."""
    with pytest.raises(
        ValueError, match=r"y of owner-[01], row \d: -3; classes are 0..2, and -100 where there is none"
    ):
        raysplit.train(**in_hand([0, 1, 2, -3] * 3, 3))


def test_a_run_of_which_nothing_counts_ends_without_figures() -> None:
    """The last line of the command looked for a figure, which ended in a traceback."""
    result = raysplit.train(**in_hand([math.nan] * 12, 1, task="regression"))
    assert "test_loss" not in result.rows[-1]
    assert str(result_line(result, "runs/a", "1 s")).startswith("no figures of tests after 1 round")


def test_masks_in_another_proportion_than_the_pictures_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """They are taken, as models answer with fewer pixels; the answer is stretched to them."""
    samples = Samples(x=torch.rand(4, 3, 8, 8), y=torch.zeros(4, 8, 6, dtype=torch.int64))
    data = DataSet(train=samples, test=samples, num_classes=2, transform=UNCHANGED, eval_transform=UNCHANGED)
    checked_task(TaskSettings(section=TaskConfig(kind="segmentation")), data, {"owner-0": samples}, "mine")
    assert "masks have 8 x 6 pixels and pictures 8 x 8, in another proportion" in caplog.text


def test_an_empty_cell_names_no_owner(tmp_path: Path) -> None:
    """It was an owner by the name of nothing: "the data name 3 owners and num_owners is 2"."""
    rows = [f"{i},k{i % 2},{i % 3}" for i in range(12)]
    rows[6] = "6,,0"
    (tmp_path / "t.csv").write_text("\n".join(["age,clinic,sick", *rows]))
    columns = {"sick": "target", "clinic": "owner"}
    with pytest.raises(ValueError, match=r"column 'clinic': owner has no value in row 6; say who holds each sample"):
        load_dataset("t.csv", root=str(tmp_path), columns=columns, encoder="fitted")
