"""The loss and the figures of several tasks together, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from raysplit.tasks import SeveralTasks, make_task
from raysplit.tasks.task import added

NAN = math.nan
LN3 = math.log(3)
TASKS = SeveralTasks(
    each=(("shape", make_task("classification", 3)), ("size", make_task("regression", 1, mean=(1.0,), std=(2.0,)))),
    weights=(1.0, 0.5),
)
LOGITS = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
OUTPUTS = {"shape": LOGITS, "size": torch.tensor([[1.0], [0.0], [7.0]])}
TARGETS = {"shape": torch.tensor([2, -100, -100]), "size": torch.tensor([1.0, 5.0, NAN])}
"""In standard units the sizes are 0, 2 and missing: errors 1 and -2."""


def test_each_loss_is_divided_by_its_own_count() -> None:
    assert float(TASKS(OUTPUTS, TARGETS)) == pytest.approx(LN3 + 0.5 * (1 + 4) / 2, abs=1e-6)
    assert TASKS.count(TARGETS) == 2  # samples with a target of any task
    nothing = {"shape": torch.full((3,), -100), "size": torch.full((3,), NAN)}
    assert float(TASKS(OUTPUTS, nothing)) == 0


def test_one_tensor_has_the_outputs_side_by_side() -> None:
    together = torch.cat([OUTPUTS["shape"], OUTPUTS["size"]], 1)
    assert TASKS(together, TARGETS).equal(TASKS(OUTPUTS, TARGETS))
    with pytest.raises(ValueError, match=r"the tasks take 4 numbers for each sample \(3 for shape, 1 for size\)"):
        TASKS(torch.zeros(3, 5), TARGETS)
    with pytest.raises(ValueError, match="returns logits, and the tasks are shape, size"):
        TASKS({"logits": LOGITS}, TARGETS)


def test_a_node_computes_the_loss_of_its_own_heads() -> None:
    own = TASKS({"size": OUTPUTS["size"]}, {"size": TARGETS["size"]})
    assert float(own) == pytest.approx(0.5 * 2.5)


def test_figures_are_those_of_the_tasks_and_the_plain_sum_of_their_losses() -> None:
    sums = TASKS.sums(OUTPUTS, TARGETS)
    parts = [
        TASKS.sums({k: v[i] for k, v in OUTPUTS.items()}, {k: v[i] for k, v in TARGETS.items()}) for i in ([0], [1, 2])
    ]
    assert TASKS.figures(added(*parts)) == pytest.approx(TASKS.figures(sums), rel=1e-12)
    found = TASKS.figures(sums)
    assert TASKS.primary == "loss"
    assert found["loss"] == pytest.approx(LN3 + 2.5, abs=1e-6)  # without the weights
    assert found["accuracy_shape"] == 0
    assert found["rmse_size"] == pytest.approx(math.sqrt((4 + 16) / 2))  # in the units of the targets
    assert TASKS.directions["r2_size"] == "higher"


def test_means_over_models_are_taken_task_by_task() -> None:
    """Of two owners with a task each, the sum has both; the mean of their sums would be half of it."""
    found = TASKS.mean_figures([{"loss": 2.0, "loss_shape": 2.0}, {"loss": 3.0, "loss_size": 3.0}])
    assert found == {"loss": 5.0, "loss_shape": 2.0, "loss_size": 3.0}


def test_classifications_alone_have_a_mean_accuracy() -> None:
    labels = SeveralTasks(each=tuple((name, make_task("classification", 3)) for name in "ab"), weights=(1.0, 2.0))
    assert labels.primary == "accuracy"
    sums = labels.sums({"a": LOGITS, "b": LOGITS}, {"a": torch.tensor([0, 1, 0]), "b": torch.tensor([1, 1, 0])})
    assert labels.figures(sums)["accuracy"] == pytest.approx((2 / 3 + 1 / 3) / 2)


def test_the_naive_model_and_the_units_come_from_the_owners_targets() -> None:
    plain = SeveralTasks(
        each=(("shape", make_task("classification", 3)), ("size", make_task("regression", 1))), weights=(1.0, 1.0)
    )
    owners = [
        {"shape": torch.tensor([0, 0]), "size": torch.tensor([1.0, NAN])},
        {"shape": torch.tensor([1]), "size": torch.tensor([3.0])},
    ]
    statistic = plain.merged([plain.statistic(y) for y in owners])
    ready = plain.prepared(statistic)
    assert ready.units() == {"size": {"mean": [2.0], "std": [1.0]}}
    figures = ready.naive_figures(ready.naive(statistic, {"shape": torch.tensor([0]), "size": torch.tensor([5.0])}))
    assert figures["accuracy_shape"] == 1
    assert figures["rmse_size"] == 3
    assert figures["loss"] == pytest.approx(-math.log(3 / 6) + 9, abs=1e-6)


def test_the_naive_loss_is_left_out_where_one_task_has_none() -> None:
    both = SeveralTasks(
        each=(("tags", make_task("multi_label", 2)), ("size", make_task("regression", 1))), weights=(1.0, 1.0)
    )
    y = {"tags": torch.tensor([[1.0, 0.0]]), "size": torch.tensor([1.0])}
    statistic = both.merged([both.statistic(y)])
    figures = both.naive_figures(both.naive(statistic, y))
    assert "loss" not in figures
    assert figures["rmse_size"] == 0


def test_weights_that_train_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="the weights of the tasks size are all 0"):
        SeveralTasks(each=(("size", make_task("regression", 1)),), weights=(0.0,))
