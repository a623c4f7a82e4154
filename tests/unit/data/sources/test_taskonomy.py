"""The Taskonomy folder layout, on a few pictures drawn here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from raysplit.data.datasets import load_dataset
from raysplit.data.sources.taskonomy import FOLDER_OF, taskonomy
from raysplit.models.dense.losses import TASKS

GREY_16_BIT = {"d": 2500, "k": 150, "t": 1788, "e": 295}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two buildings of six 4x4 pictures: constant targets, depth missing in the first pixel, no label in the second."""
    for building in ("allensville", "uvalda"):
        for task, folder in FOLDER_OF.items():
            (tmp_path / folder / building).mkdir(parents=True)
            for number in range(6):
                if task in GREY_16_BIT:
                    pixels = np.full((4, 4), GREY_16_BIT[task], dtype=np.uint16)
                    if task == "d":
                        pixels[0, 0] = 2**16 - 1
                elif task == "s":
                    pixels = np.full((4, 4), 7, dtype=np.uint8)
                    pixels[0, 1] = 0
                else:
                    pixels = np.full((4, 4, 3), (255, 0, 51 + 51 * (number % 2)), dtype=np.uint8)
                Image.fromarray(pixels).save(
                    tmp_path / folder / building / f"point_{number}_view_0_domain_{folder}.png"
                )
    return tmp_path


def test_targets_are_normalised_and_masked(root: Path) -> None:
    data = taskonomy(
        root, buildings=("allensville", "uvalda"), tasks=tuple(FOLDER_OF), image_size=4, num_val=1, num_test=2
    )
    samples = data.train["uvalda"].take([0, 2])
    assert samples.x.shape == (2, 3, 4, 4)
    assert samples.x[0, :, 0, 0].tolist() == pytest.approx([1.0, 0.0, 0.4])
    y = samples.y
    assert not isinstance(y, torch.Tensor)
    inner = {task: values[0, ..., 2, 2].tolist() for task, values in y.items()}
    assert inner["s"] == 7
    assert inner["d"] == pytest.approx([1.0])
    assert inner["n"] == pytest.approx([1.0, -1.0, -0.2])
    assert inner["k"] == pytest.approx([1.0])
    assert inner["t"] == pytest.approx([1.0])
    assert inner["e"] == pytest.approx([(295 - 56.0248) / 239.1265])
    assert inner["r"] == pytest.approx([((1 + 0.4) / 3 - 0.4962) / 0.2846], rel=1e-5)
    assert inner["c"] == pytest.approx([(1 - 0.5175) / 0.1373, -0.4987 / 0.0359], rel=1e-5)
    assert inner["a"] == pytest.approx([1.0, 0.0, 0.4])
    assert y["s"].dtype == torch.uint8
    assert int(y["s"][0, 0, 1]) == 0
    for task in "dnerc":
        assert bool(y[task][0, :, 0, 0].isnan().all())
        assert not bool(y[task][0].flatten(1)[:, 1:].isnan().any())
    for task in "kta":
        assert not bool(y[task].isnan().any())
    for task, target in y.items():
        prediction = torch.zeros(2, TASKS[task].num_channels, 4, 4)
        assert bool(TASKS[task].loss(prediction, target).isfinite())


def test_a_mask_comes_before_the_depth(root: Path) -> None:
    (root / "mask" / "uvalda").mkdir(parents=True)
    valid = np.full((4, 4), 255, dtype=np.uint8)
    valid[3, 3] = 0
    for number in range(6):
        Image.fromarray(valid).save(root / "mask" / "uvalda" / f"point_{number}_view_0_domain_mask.png")
    data = taskonomy(root, buildings=("uvalda",), tasks=("n",), image_size=4, num_val=1, num_test=2)
    y = data.train["uvalda"].take([0]).y
    assert not isinstance(y, torch.Tensor)
    assert y["n"][0, 0].isnan().nonzero().tolist() == [[3, 3]]


def test_splits_share_no_image_and_cover_the_building(root: Path) -> None:
    data = taskonomy(root, buildings=("allensville",), tasks=("d",), image_size=4, num_val=1, num_test=2)
    sides = [side["allensville"] for side in (data.train, data.val, data.test)]
    assert [len(side) for side in sides] == [3, 1, 2]
    names = [path.name for side in sides for path in side.rgb]
    assert sorted(names) == [f"point_{number}_view_0_domain_rgb.png" for number in range(6)]


def test_errors_name_the_folder_and_the_way_out(root: Path) -> None:
    with pytest.raises(ValueError, match=r"rgb/nowhere is missing"):
        taskonomy(root, buildings=("nowhere",), image_size=4)
    with pytest.raises(ValueError, match="lower num_val or num_test"):
        taskonomy(root, buildings=("uvalda",), image_size=4)
    with pytest.raises(ValueError, match="letters of sdnkterca"):
        taskonomy(root, buildings=("uvalda",), tasks=("q",))


def test_as_a_data_set_every_building_is_an_owner(root: Path) -> None:
    options = {"buildings": ["uvalda", "allensville"], "tasks": "sd", "image_size": 4, "num_val": 1, "num_test": 2}
    data = load_dataset("taskonomy", root=str(root), num_train=2, **options)
    assert data.natural_owner is not None
    assert data.natural_owner.tolist() == ["uvalda"] * 2 + ["allensville"] * 2
    assert data.val is not None
    assert [len(side) for side in (data.train, data.val, data.test)] == [4, 2, 4]
    assert data.input_shape == (3, 4, 4)
    assert list(data.train.y) == ["s", "d"]
    first, second = data.train.x[:2, 2, 0, 0].tolist()  # images 3 and 4: the first and the middle one of three
    assert [first, second] == pytest.approx([0.4, 0.2])
