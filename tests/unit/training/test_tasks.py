"""Runs of the kinds of tasks, end to end: what is trained, what stands in the rows, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import raysplit
from raysplit.data.samples import DataSet, Samples
from raysplit.data.transforms import ToUnit
from raysplit.runs.metric import Metric, primary
from raysplit.tasks import next_tokens

TWICE = 2


class Tokens(nn.Module):
    """A class for each token."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(8, 8)
        self.hidden = nn.Linear(8, 8)
        self.output = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.output(torch.tanh(self.hidden(self.embedding(x))))
        return logits


class Pixels(nn.Module):
    """A class for each pixel of a smaller picture, and an auxiliary answer, by name."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(1, 4, 3, padding=1)
        self.output = nn.Conv2d(4, num_classes, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = torch.relu(self.hidden(x))
        logits = self.output(maps)
        return {"out": nn.functional.avg_pool2d(logits, 2), "aux": logits}


def sided(x: Tensor, y: Tensor, num_outputs: int, owners: list[int]) -> DataSet:
    """The first rows for training, with their owners, the others for tests."""
    cut = len(owners)
    return DataSet(
        train=Samples(x=x[:cut], y=y[:cut]),
        test=Samples(x=x[cut:], y=y[cut:]),
        num_classes=num_outputs,
        transform=ToUnit(),
        eval_transform=ToUnit(),
        natural_owner=np.array(owners),
    )


def tokens(kind: str) -> DataSet:
    gen = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 8, (12, 6), generator=gen)
    y = next_tokens(ids) if kind == "language_model" else ids % 3
    y[0:3, 1:] = -100  # the first owner has few targets
    return sided(ids, y, 8 if kind == "language_model" else 3, [0] * 4 + [1] * 4)


def pixels() -> DataSet:
    gen = torch.Generator().manual_seed(0)
    x = torch.rand(12, 1, 4, 4, generator=gen)
    y = (x[:, 0] > 0.5).long()
    y[0, 0] = 255
    return sided(x, y, TWICE, [0] * 4 + [1] * 4)


def numbers() -> DataSet:
    gen = torch.Generator().manual_seed(0)
    x = torch.randn(12, 4, generator=gen)
    return sided(x, 50 + 10 * x.sum(1), 1, [0] * 4 + [1] * 4)


def several() -> DataSet:
    gen = torch.Generator().manual_seed(0)
    x = torch.randn(12, 4, generator=gen)
    y = (x[:, :3] > 0).float()
    y[0, 0] = float("nan")
    return sided(x, y, 3, [0] * 4 + [1] * 4)


RUNS: dict[str, tuple[DataSet, Any]] = {
    "token_classification": (tokens("token_classification"), Tokens),
    "language_model": (tokens("language_model"), Tokens),
    "segmentation": (pixels(), Pixels),
    "regression": (numbers(), "mlp"),
    "multi_label": (several(), "mlp"),
}


def trained(kind: str, algorithm: Mapping[str, Any], task: Any = None, **training: Any) -> raysplit.Result:
    data, model = RUNS[kind]
    return raysplit.train(
        model=model,
        data=data,
        task=task or kind,
        partition={"name": "natural_id", "num_owners": 2},
        algorithm=algorithm,
        training={"rounds": 2, "batch_size": 3, "local_epochs": 1, **training},
        cluster="local",
    )


def same(one: raysplit.Result, other: raysplit.Result) -> bool:
    (a,), (b,) = one.states.values(), other.states.values()
    return all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("kind", list(RUNS))
def test_a_split_run_is_the_whole_run_in_bits(kind: str) -> None:
    """SplitFed V1 = FedAvg, and MiniBatch-SFL with one step an owner at a time trains too."""
    whole, split = (
        trained(kind, {"name": "fedavg"}),
        trained(
            kind,
            {
                "name": "splitfed_v1",
                "cut": "hidden" if kind in ("segmentation", "token_classification", "language_model") else 1,
            },
        ),
    )
    assert same(whole, split)
    row = whole.rows[-1]
    assert row["primary"] == row[f"test_{row['primary_metric']}"]
    assert {"primary_naive", "test_loss", f"owner_{row['primary_metric']}"} - row.keys() <= {
        f"owner_{row['primary_metric']}"
    }
    assert primary(whole.rows) == Metric(name=row["primary_metric"], better=row["primary_better"])
    assert split.rows[-1]["primary"] == row["primary"]


@pytest.mark.parametrize("kind", ["token_classification", "segmentation"])
def test_a_joint_run_learns(kind: str) -> None:
    options = {"name": "minibatch_sfl", "cut": "hidden"}
    result = trained(kind, options, rounds=15, optimizer={"name": "adamw", "lr": 0.05})
    first, last = result.rows[0], result.rows[-1]
    assert last["train_loss"] < first["train_loss"]
    assert last["primary"] > last["primary_naive"]


def test_one_step_by_targets_is_one_centralized_step() -> None:
    """Owners have 15 and 24 targets in four samples each; by samples, the mean of their steps is another step."""
    step = {"rounds": 1, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.5}}
    kind, cut = "token_classification", {"name": "splitfed_v1", "cut": "hidden"}
    (whole,) = trained(kind, {"name": "centralised"}, **step).states.values()
    (by_targets,) = trained(kind, cut, weight_by="targets", **step).states.values()
    (by_samples,) = trained(kind, cut, **step).states.values()
    for key, value in whole.items():
        assert torch.allclose(by_targets[key], value, rtol=1e-6, atol=1e-7)
    assert max(float((by_samples[key] - value).abs().max()) for key, value in whole.items()) > 1e-4


def test_class_labels_without_a_task_keep_their_columns_and_bits() -> None:
    how = {
        "model": "mlp",
        "data": {"name": "random", "num_samples": 60, "dim": 4, "num_classes": 3},
        "partition": {"num_owners": 2},
        "algorithm": {"name": "minibatch_sfl", "cut": 1},
        "training": {"rounds": 1, "local_epochs": 1},
        "cluster": "local",
    }
    plain, said = raysplit.train(**how), raysplit.train(**how, task="classification")  # type: ignore[arg-type]
    assert same(plain, said)
    assert plain.rows[-1].keys() - said.rows[-1].keys() == set()
    assert not {key for key in plain.rows[-1] if key.startswith(("primary", "naive"))}
    assert said.accuracy == plain.accuracy == said.rows[-1]["primary"]


def test_targets_of_numbers_are_a_regression_unless_said_otherwise() -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 3)), np.linspace(0.5, 9.7, 20)
    sides = ((x[:16], y[:16]), (x[16:], y[16:]))
    how: dict[str, Any] = {"partition": {"num_owners": 2}, "algorithm": {"name": "fedavg"}, "cluster": "local"}
    result = raysplit.train(model="mlp", data=sides, training={"rounds": 1}, **how)
    assert result.rows[-1]["primary_metric"] == "rmse"
    whole = tuple((x, np.round(y)) for x, y in sides)
    labels = raysplit.train(model="mlp", data=whole, training={"rounds": 1}, **how)
    assert "test_accuracy" in labels.rows[-1]
    amounts = raysplit.train(model="mlp", data=whole, task="regression", training={"rounds": 1}, **how)
    assert amounts.rows[-1]["primary_metric"] == "rmse"


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        ("regression", {"training": {"loss": "mse"}}, "training.loss is mse, and the task regression has its own"),
        ("regression", {"task": "classification"}, "y of owner-0 is float32 .* task: regression would fit"),
        (
            "regression",
            {"partition": {"name": "dirichlet", "alpha": 1, "num_owners": 2}},
            "divides samples by class label",
        ),
        ("token_classification", {"task": None}, "set task to token_classification or language_model"),
    ],
)
def test_what_does_not_fit_is_refused(kind: str, changes: dict[str, Any], says: str) -> None:
    data, model = RUNS[kind]
    how: dict[str, Any] = {"algorithm": {"name": "fedavg"}, "partition": {"name": "natural_id", "num_owners": 2}}
    with pytest.raises(ValueError, match=says):
        raysplit.train(**{"model": model, "data": data, "task": kind, "cluster": "local", **how, **changes})
