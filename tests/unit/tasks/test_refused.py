"""Options, metrics and targets that a task refuses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raysplit.data.datasets import load_dataset
from raysplit.data.reading import Reading
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
    data = load_dataset(str(tmp_path / "one.npz"), reading=Reading(task="multi_label"))
    assert isinstance(data.train.y, Tensor)
    with pytest.raises(ValueError, match=r"multi_label takes 0 or 1 for each label .*; task: classification would fit"):
        make_task("multi_label", data.num_classes).check(data.train.y, "y of owner-0")
