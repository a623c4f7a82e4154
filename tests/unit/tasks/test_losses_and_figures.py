"""Losses, counts and figures of each kind of task, by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from raysplit.tasks import KINDS, Task, make_task, next_tokens
from raysplit.tasks.outputs import answer
from raysplit.tasks.task import added

NAN = float("nan")


def sums_by(task: Task, output: Tensor, y: Tensor, batch: int) -> dict[str, Tensor]:
    total: dict[str, Tensor] = {}
    for start in range(0, len(y), batch):
        total = added(total, task.sums(output[start : start + batch], y[start : start + batch]))
    return total


def example(kind: str, rows: int = 60) -> tuple[Task, Tensor, Tensor]:
    """A task with outputs and targets, some of which do not count."""
    gen = torch.Generator().manual_seed(1)
    shapes = {"segmentation": (rows, 4, 5, 5), "token_classification": (rows, 6, 4), "language_model": (rows, 6, 4)}
    output = torch.randn(shapes.get(kind, (rows, 4)), generator=gen)
    if kind in ("multi_label", "regression"):
        y = torch.rand(rows, 4, generator=gen)
        y = (y > 0.5).float() if kind == "multi_label" else 100 * y
        y[3, 1] = y[7] = NAN
    else:
        places = {"classification": (), "segmentation": (5, 5)}.get(kind, (6,))
        y = torch.randint(0, 4, (rows, *places), generator=gen)
        y[3] = KINDS[kind].usual_ignored or 0
    return make_task(kind, 4), output, y


@pytest.mark.parametrize(
    ("kind", "output", "y", "loss"),
    [
        ("multi_label", [[0.0]], [[1.0]], math.log(2)),
        ("classification", [[0.0, 0.0, 0.0]], [2], math.log(3)),
        ("regression", [1.0, 2.0], [0.0, 0.0], 2.5),
        ("language_model", [[[0.0] * 256] * 2], [[7, 255]], math.log(256)),
        ("regression", [[1.0, 9.0]], [[0.0, NAN]], 1.0),
        ("classification", [[0.0, 0.0], [5.0, 0.0]], [1, -100], math.log(2)),
        ("segmentation", [[[[0.0, 9.0]], [[0.0, 0.0]]]], [[[1, 255]]], math.log(2)),
    ],
)
def test_losses_by_hand(kind: str, output: list[Any], y: list[Any], loss: float) -> None:
    made, targets = torch.tensor(output), torch.tensor(y)
    num = 256 if kind == "language_model" else made.shape[1] if made.ndim > 1 else 1
    assert float(make_task(kind, num)(made, targets)) == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("kind", list(KINDS))
def test_nothing_counted_is_a_loss_of_0_without_gradients(kind: str) -> None:
    task, output, y = example(kind)
    y.fill_(NAN if y.is_floating_point() else task.ignore_index or 0)
    output.requires_grad_()
    loss = task(output, y)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0 == task.count(y)
    assert output.grad is not None
    assert not output.grad.any()
    assert task.figures(task.sums(output.detach(), y)) == {}


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_does_not_count_has_no_gradient(kind: str) -> None:
    task, output, y = example(kind)
    output.requires_grad_()
    assert task.total(output, y)[1] == task.count(y)
    task(output, y).backward()  # type: ignore[no-untyped-call]
    assert output.grad is not None
    assert output.grad.isfinite().all()
    row = 7 if y.is_floating_point() else 3
    assert not output.grad[row].any()
    assert output.grad[0].any()


def test_classification_is_torchs_own_mean_in_bits() -> None:
    task, output, y = example("classification")
    wanted = F.cross_entropy(output, y)
    assert torch.equal(task(output, y.to(torch.int32)), wanted)


def test_figures_of_a_confusion_matrix_by_hand() -> None:
    """Targets in rows: [[3, 1], [2, 4]]."""
    predicted = torch.tensor([0, 0, 0, 1, 0, 0, 1, 1, 1, 1])
    y = torch.tensor([0] * 4 + [1] * 6)
    logits = F.one_hot(predicted, 3).float()
    masks = make_task("segmentation", 3)
    found = masks.figures(masks.sums(logits.T[None, :, None], y[None, None]))
    assert found["miou"] == pytest.approx((3 / 6 + 4 / 7) / 2, abs=1e-7)  # class 2 occurs nowhere and is left out
    assert found["pixel_accuracy"] == pytest.approx(0.7, abs=1e-7)
    assert "iou_2" not in found
    labels = make_task("classification", 3)
    found = labels.figures(labels.sums(logits, y))
    assert found["accuracy"] == pytest.approx(0.7, abs=1e-7)
    assert found["macro_f1"] == pytest.approx((6 / 9 + 8 / 11) / 2, abs=1e-7)


def test_r2_by_hand_and_of_a_constant_target() -> None:
    task = make_task("regression", 1, mean=(2.0,), std=(3.0,))
    y = torch.tensor([1.0, 2.0, 4.0])
    outputs = (torch.tensor([1.0, 2.0, 3.0]) - 2) / 3  # in standardized units
    found = task.figures(task.sums(outputs, y))
    assert found["r2"] == pytest.approx(0.7857143, abs=1e-7)
    assert found["rmse"] == pytest.approx(math.sqrt(1 / 3), rel=1e-6)
    assert found["mae"] == pytest.approx(1 / 3, rel=1e-6)
    assert found["loss"] == pytest.approx(1 / 27, rel=1e-6)
    constant = task.figures(task.sums(outputs, torch.tensor([5.0, 5.0, 5.0])))
    assert math.isnan(constant["r2"])
    assert constant["mae"] == pytest.approx(3.0)


def test_f1_without_positives_anywhere_is_left_out() -> None:
    task = make_task("multi_label", 2)
    output, y = torch.tensor([[2.0, -1.0], [-2.0, -1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    found = task.figures(task.sums(output, y))
    assert found["macro_f1"] == pytest.approx(2 / 3)  # label 0 alone: one hit, one missed
    assert found["exact_match"] == 0.5
    assert "auroc" not in found  # no label has both
    nothing = task.figures(task.sums(-output.abs(), torch.zeros(2, 2)))
    assert "macro_f1" not in nothing
    assert "micro_f1" not in nothing


@pytest.mark.parametrize("kind", list(KINDS))
def test_sums_do_not_depend_on_batches(kind: str) -> None:
    """Whole numbers are the same, and sums of numbers up to the order of addition."""
    task, output, y = example(kind)
    wanted = sums_by(task, output, y, len(y))
    for batch in (1, 32, 500):
        found = sums_by(task, output, y, batch)
        for name, value in wanted.items():
            if value.is_floating_point():
                assert torch.allclose(found[name], value, rtol=1e-12, atol=0)
            else:
                assert torch.equal(found[name], value)


@pytest.mark.parametrize("kind", list(KINDS))
def test_sums_over_owners_are_those_of_all_rows(kind: str) -> None:
    """Figures depend neither on how many owners have the rows nor on batches, and not at all on their places."""
    task, output, y = example(kind, rows=63)
    whole = sums_by(task, output, y, len(y))
    for num_owners in (1, 2, 7):
        shares = [range(i, len(y), num_owners) for i in range(num_owners)]
        for batch in (1, 32, 500):
            own = [sums_by(task, output[list(rows)], y[list(rows)], batch) for rows in shares]
            total: dict[str, Tensor] = {}
            for sums in own:
                total = added(total, sums)
            for name, value in whole.items():
                exact = not value.is_floating_point()
                assert torch.equal(total[name], value) if exact else torch.allclose(total[name], value, rtol=1e-12)
            for name, figure in task.figures(whole).items():
                assert task.figures(total)[name] == pytest.approx(figure, rel=1e-9, nan_ok=True)


def test_masks_of_another_size_are_compared_at_their_own() -> None:
    task = make_task("segmentation", 2)
    small, y = torch.randn(2, 2, 4, 4), torch.randint(0, 2, (2, 8, 8))
    large = F.interpolate(small, size=(8, 8), mode="bilinear", align_corners=False)
    assert torch.equal(task(small, y), task(large, y))


class Pair(NamedTuple):
    logits: Tensor
    aux_logits: Tensor


@dataclass
class Record:
    loss: None
    logits: Tensor


def test_the_answer_is_found_among_several_outputs() -> None:
    a, b = torch.zeros(2, 3), torch.ones(2, 3)
    assert answer({"aux": b, "out": a}) is a
    assert answer({"out": b, "logits": a}) is a
    assert answer(Record(loss=None, logits=a)) is a
    assert answer((torch.tensor([1]), a)) is a
    assert answer(Pair(a, b)) is a
    with pytest.raises(ValueError, match="no entry is a floating tensor; let its forward return the logits"):
        answer({"ids": torch.tensor([1])})


def test_auxiliary_outputs_add_to_the_loss_and_not_to_the_figures() -> None:
    task, y = make_task("segmentation", 2), torch.tensor([[[1]]])
    out, aux = torch.tensor([[[[0.0]], [[0.0]]]]), torch.tensor([[[[1.0]], [[0.0]]]])
    outputs = {"out": out, "aux": aux}
    assert float(task(outputs, y)) == pytest.approx(math.log(2) + 0.5 * math.log(1 + math.e), rel=1e-6)
    assert task.sums(outputs, y)["loss"] == pytest.approx(math.log(2))
    labels = make_task("classification", 2)
    pair = Pair(torch.zeros(1, 2), torch.zeros(1, 2))
    assert float(labels(pair, torch.tensor([0]))) == pytest.approx(1.4 * math.log(2), rel=1e-6)


def test_targets_of_a_language_model_are_the_next_tokens() -> None:
    ids, mask = torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    assert next_tokens(ids, mask).tolist() == [[6, 7, -100], [9, -100, -100]]


def test_metrics_of_torchmetrics_are_sums() -> None:
    pytest.importorskip("torchmetrics")
    wanted: list[Any] = [
        "torchmetrics:MulticlassF1Score",
        {"name": "torchmetrics:MulticlassAccuracy", "average": "micro", "label": "acc"},
    ]
    task = make_task("classification", 3, metrics=wanted)
    output, y = torch.randn(40, 3), torch.randint(0, 3, (40,))
    found = task.figures(sums_by(task, output, y, 7))
    assert found["MulticlassF1Score"] == pytest.approx(found["macro_f1"])
    assert found["acc"] == pytest.approx(found["accuracy"])
    assert task.directions["acc"] == "higher"
    amounts = make_task("regression", 1, metrics=["torchmetrics:MeanAbsoluteError"], mean=(5.0,), std=(2.0,))
    made, numbers = torch.randn(20), torch.randn(20) + 5
    found = amounts.figures(sums_by(amounts, made, numbers, 6))
    assert found["MeanAbsoluteError"] == pytest.approx(found["mae"], rel=1e-6)
    assert amounts.directions["MeanAbsoluteError"] == "lower"
