"""What tasks take from the targets of all owners: the model that ignores its inputs, and the units."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from raysplit.tasks import make_task

NAN = float("nan")


def test_the_naive_model_ignores_its_inputs() -> None:
    labels = make_task("classification", 3)
    naive = labels.naive_figures(labels.naive(labels.statistic(torch.tensor([1, 1, 2])), torch.tensor([1, 0, 1, 2])))
    assert naive["accuracy"] == 0.5
    tokens = make_task("language_model", 2)
    statistic = tokens.statistic(torch.tensor([[0, 0, 1, -100]]))  # add one: shares 3/5 and 2/5
    naive = tokens.naive_figures(tokens.naive(statistic, torch.tensor([[0, 1]])))
    assert naive["perplexity"] == pytest.approx(1 / math.sqrt(0.6 * 0.4), rel=1e-6)
    amounts = make_task("regression", 1).prepared({"number": torch.tensor([4]), **_moments(3.0, 4.0)})
    naive = amounts.naive_figures(
        amounts.naive({"number": torch.tensor([4]), **_moments(3.0, 4.0)}, torch.tensor([1.0, 5.0]))
    )
    assert (naive["mae"], naive["r2"]) == (2.0, 0.0)
    several = make_task("multi_label", 2)
    statistic = several.statistic(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    naive = several.naive_figures(several.naive(statistic, torch.tensor([[1.0, 0.0], [0.0, 0.0]])))
    assert naive["macro_f1"] == pytest.approx(2 / 3)
    assert "loss" not in naive


def _moments(mean: float, squares: float) -> dict[str, Tensor]:
    return {"mean": torch.tensor([mean], dtype=torch.float64), "squares": torch.tensor([squares], dtype=torch.float64)}


def test_mean_and_deviation_of_owners_are_those_of_all_rows() -> None:
    task = make_task("regression", 2)
    y = torch.randn(50, 2, generator=torch.Generator().manual_seed(3)).double() * 7 + 1000
    y[4, 0] = NAN
    merged = task.merged([task.statistic(part) for part in torch.split(y, [3, 40, 7])])
    found = task.prepared(merged).units()
    known = y[~y[:, 0].isnan(), 0]
    assert found["mean"] == pytest.approx([float(known.mean()), float(y[:, 1].mean())], rel=1e-12)
    assert found["std"] == pytest.approx([float(known.std(correction=0)), float(y[:, 1].std(correction=0))], rel=1e-12)
