"""Multi-task data by name, the figures of tasks with class labels, and what an export says of them.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from raysplit.actors.evaluator import Evaluation, evaluate
from raysplit.actors.parts.losses import cross_entropy
from raysplit.data.datasets import load_dataset
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sources.task_set import TaskSet
from raysplit.data.transforms import Compose, Normalise, ToUnit, normalisation
from raysplit.models.classifier.export import described
from raysplit.models.classifier.spec import ClassifierSpec
from raysplit.runs.metric import primary
from raysplit.serving.cost.deployments import model_sizes
from raysplit.training import metrics as scores


@pytest.mark.parametrize(
    ("name", "options", "tasks"),
    [
        ("shapes3d", {"grid": "reduced", "num_train": 20, "num_test": 4}, {"scale": 8, "shape": 4}),
        ("medic_like", {"num_train": 20, "num_test": 4}, {"damage_severity": 3, "disaster_type": 5}),
        pytest.param(
            "faces_like", {"image_size": 32}, {"age_group": 3, "gender": 2, "expression": 6}, marks=pytest.mark.slow
        ),
    ],
)
def test_drawn_sets_by_name(name: str, options: dict[str, Any], tasks: dict[str, int]) -> None:
    data = load_dataset(name, **options)
    assert data.classes is not None
    assert {task: len(names) for task, names in data.classes.items()} == tasks
    assert data.num_classes == max(tasks.values())
    assert data.val is not None
    total = len(data.train) + len(data.val)
    assert len(data.val) == round(0.1 * total)
    assert data.train.x.shape[1:] == data.input_shape
    assert list(data.train.y) == list(data.val.y) == list(data.test.y) == list(tasks)


def test_dsprites_are_found_in_a_folder(tmp_path: Path) -> None:
    latents = np.stack([np.arange(30) % classes for classes in (3, 6, 40, 32, 32)], axis=1)
    np.savez(tmp_path / "dsprites_small.npz", imgs=np.ones((30, 64, 64), np.uint8), latents_classes=latents)
    data = load_dataset("dsprites", root=str(tmp_path), tasks=["shape", "x"], val_fraction=0.25)
    assert data.val is not None
    assert (len(data.train), len(data.val), len(data.test)) == (18, 6, 6)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"there is no file .*empty/dsprites\.npz"):
        load_dataset("dsprites", root=str(tmp_path / "empty"))


def test_a_users_folder_and_its_table(tmp_path: Path) -> None:
    for k in range(10):
        Image.new("L", (8, 8), 20 * k).save(tmp_path / f"{k}.png")
    table = {"image": [f"{k}.png" for k in range(10)], "size": ["big", "small"] * 5, "tone": ["a"] * 4 + ["b"] * 6}
    pa.csv.write_csv(pa.table(table), tmp_path / "labels.csv")
    options = {"table": "labels.csv", "tasks": ["size", "tone"], "image_size": 16, "val_fraction": 0.0}
    data = load_dataset("image_table", root=str(tmp_path), **options)
    assert data.classes == {"size": ("big", "small"), "tone": ("a", "b")}
    assert data.val is None
    assert data.input_shape == (3, 16, 16)
    with pytest.raises(ValueError, match=r"data.colour: image_table has no such option .known: table"):
        load_dataset("image_table", root=str(tmp_path), **options, colour="red")


def numbered(count: int) -> TaskSet:
    x = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    samples = Samples(x=x, y={"parity": torch.arange(count) % 2})
    return TaskSet(
        train=samples, test=samples, classes={"parity": ("even", "odd")}, transform=ToUnit(), eval_transform=ToUnit()
    )


def test_pictures_set_aside_are_not_trained_on() -> None:
    data = numbered(50).data_set(0.2, seed=1)
    assert data.val is not None
    kept, aside = data.train.x[:, 0, 0, 0].tolist(), data.val.x[:, 0, 0, 0].tolist()
    assert (len(kept), len(aside)) == (40, 10)
    assert sorted(kept + aside) == list(range(50))
    other = numbered(50).data_set(0.2, seed=2).val
    assert other is not None
    assert other.x[:, 0, 0, 0].tolist() != aside
    for share in (1.0, -0.1):
        with pytest.raises(ValueError, match="set aside a share from 0 to less than 1"):
            numbered(50).data_set(share)


# --- figures -----------------------------------------------------------------------------------------------------


class Answers(nn.Module):
    """A model that is sure: class 0 of task a for dark pictures, always class 1 of task b."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        dark = (x.mean((1, 2, 3)) < 0.5).float()
        a = torch.stack([dark, 1 - dark], dim=1)
        b = torch.tensor([[0.0, 1.0, 0.0]]).expand(len(x), 3)
        return {"a": 100 * self.scale * a, "b": 100 * self.scale * b}


class Spec:
    def cast(self, batch: Tensor, device: str) -> Tensor:
        return batch.to(device)

    def whole(self, device: str) -> nn.Module:
        return Answers().to(device)


def test_right_answers_are_counted_task_by_task() -> None:
    x = torch.tensor([0, 0, 255, 255], dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    y = {"a": torch.tensor([0, 0, 1, 0]), "b": torch.tensor([1, 2, 0, 0]), "unasked": torch.zeros(4, dtype=torch.int64)}
    result = evaluate(Spec(), [Answers().state_dict()], Samples(x=x, y=y), ToUnit(), cross_entropy, seed=0)  # type: ignore[arg-type]
    assert result.task_num_correct == {"a": 3, "b": 1}
    assert result.task_accuracies == {"a": 0.75, "b": 0.25}
    assert result.task_losses == pytest.approx({"a": 25.0, "b": 75.0})
    twice = result + result
    assert (twice.num_samples, twice.task_num_correct) == (8, {"a": 6, "b": 2})
    row = scores.tested([twice], None)
    assert row == pytest.approx(
        {
            "test_accuracy": 0.5,
            "test_accuracy_a": 0.75,
            "test_accuracy_b": 0.25,
            "test_loss": 100.0,
            "test_loss_a": 25.0,
            "test_loss_b": 75.0,
        }
    )
    assert primary([row]).of(row) == 0.5


def test_dense_tasks_have_no_accuracy() -> None:
    dense = Evaluation(num_samples=4, num_correct=None, loss_sum=8.0, task_loss_sums={"d": 8.0})
    assert scores.tested([dense], None) == {"test_loss": 2.0, "test_loss_d": 2.0}


def test_the_loss_of_several_tasks_is_their_sum() -> None:
    """Two sure answers, one right (loss 0) and one wrong by a margin of 100 (loss 100)."""
    logits = {"a": torch.tensor([[100.0, 0.0]]), "b": torch.tensor([[0.0, 100.0]])}
    y = {"a": torch.tensor([0], dtype=torch.int32), "b": torch.tensor([0], dtype=torch.int32)}
    assert cross_entropy(logits, y).item() == 100.0


# --- exports -----------------------------------------------------------------------------------------------------


def test_an_export_knows_how_its_pictures_were_normalised() -> None:
    classes = (("a", ("no", "yes")),)
    spec = ClassifierSpec(
        name="multi_task", input_shape=(3, 32, 32), num_classes=2, options={"classes": classes}, seed=1
    )
    plain = described(spec, normalisation(ToUnit()))
    assert (plain.backbone, plain.image_size, plain.mean, plain.std) == (
        "mobilenet_v3_small",
        32,
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 1.0),
    )
    assert plain.classes == {"a": ("no", "yes")}
    for mean in ((0.5,), (0.5, 0.5, 0.5)):
        norm = normalisation(Compose(steps=(ToUnit(), Normalise(mean=mean, std=(0.25,) * len(mean)))))
        assert (described(spec, norm).mean, described(spec, norm).std) == ((0.5,) * 3, (0.25,) * 3)


def test_class_names_belong_to_a_data_set() -> None:
    assert isinstance(numbered(4).data_set(0.0), DataSet)
    assert numbered(4).data_set(0.0).classes == {"parity": ("even", "odd")}


@pytest.mark.parametrize(
    ("backbone", "channels", "head_of_eight"),
    [("vgg16", 512, 133_384), ("mobilenet_v3_small", 576, 149_768), ("efficientnet_b0", 1280, 329_992)],
)
def test_pooled_features_are_one_number_per_channel_at_any_size(
    backbone: str, channels: int, head_of_eight: int
) -> None:
    for image in (64, 224):
        sizes = model_sizes(backbone, [8], image, cut="pooled")
        assert (sizes.features, sizes.head_parameters) == (channels, (head_of_eight,))
