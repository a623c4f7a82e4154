"""Multi-task data other than 3D Shapes: dSprites, a user's folder with a label table, the drawn stand-ins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from raysplit.data.rendered.stand_ins import load_faces_like, load_medic_like
from raysplit.data.samples import Samples
from raysplit.data.sources.dsprites import load_dsprites
from raysplit.data.sources.image_table import load_image_table
from raysplit.data.sources.task_set import TaskSet
from raysplit.data.transforms import ToUnit


def _sprites() -> tuple[np.ndarray, np.ndarray]:
    """Thirty pictures; picture k is white in its first k + 1 pixels. Labels cycle with the task's number of classes."""
    pictures = (np.arange(4096) <= np.arange(30)[:, None]).astype(np.uint8)
    latents = np.stack([np.arange(30) % classes for classes in (3, 6, 40, 32, 32)], axis=1)
    return pictures.reshape(30, 64, 64), latents


def _packed_file(folder: Path) -> Path:
    pictures, latents = _sprites()
    packed = np.packbits(pictures.reshape(30, -1), axis=1)
    np.savez(folder / "packed.npz", imgs_packed=packed, latents_classes=latents.astype(np.uint8))
    return folder / "packed.npz"


def test_packed_sprites_are_unpacked_with_their_labels(tmp_path: Path) -> None:
    data = load_dsprites(_packed_file(tmp_path), tasks=("shape", "x"))
    assert data.num_classes == {"shape": 3, "x": 32}
    assert data.classes["shape"] == ("square", "ellipse", "heart")
    assert (len(data.train), len(data.test)) == (24, 6)
    for side in (data.train, data.test):
        assert side.x.shape[1:] == (3, 64, 64)
        assert side.x.dtype == torch.uint8
        number = side.x[:, 0].flatten(1).count_nonzero(1) - 1
        assert side.y["shape"].equal(number % 3)
        assert side.y["x"].equal(number)
        assert set(side.x.unique().tolist()) == {0, 255}


def test_the_published_layout_reads_the_same(tmp_path: Path) -> None:
    pictures, latents = _sprites()
    with_colour = np.concatenate([np.zeros((30, 1), np.int64), latents], axis=1)
    np.savez(tmp_path / "published.npz", imgs=pictures, latents_classes=with_colour)
    one, other = load_dsprites(tmp_path / "published.npz"), load_dsprites(_packed_file(tmp_path))
    assert one.train.x.equal(other.train.x)
    assert one.test.y["scale"].equal(other.test.y["scale"])


def test_fewer_sprites_on_request(tmp_path: Path) -> None:
    data = load_dsprites(_packed_file(tmp_path), num_train=10, num_test=3, seed=1)
    assert (len(data.train), len(data.test)) == (10, 3)
    assert data.train.x.equal(load_dsprites(_packed_file(tmp_path), num_train=10, num_test=3, seed=1).train.x)


def test_sprites_can_be_disturbed(tmp_path: Path) -> None:
    data = load_dsprites(_packed_file(tmp_path), noise="uniform_1.0")
    disturbed = data.transform(data.train.x, torch.Generator().manual_seed(0))
    assert disturbed.mean().item() == pytest.approx(0.5, abs=0.02)  # almost black before


def test_mistakes_with_sprites_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*none\.npz"):
        load_dsprites(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="name at least one, each once, of shape, scale"):
        load_dsprites(_packed_file(tmp_path), tasks=("size",))
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="dSprites has imgs"):
        load_dsprites(tmp_path / "other.npz")
    np.savez(tmp_path / "wrong.npz", imgs=np.zeros((2, 8, 8), np.uint8), latents_classes=np.zeros((2, 6)))
    with pytest.raises(ValueError, match="are not 64 x 64 sprites"):
        load_dsprites(tmp_path / "wrong.npz")
    with pytest.raises(ValueError, match="num_train is 50 and there are 24 train pictures"):
        load_dsprites(_packed_file(tmp_path), num_train=50)


def _folder(folder: Path, num_pictures: int = 10) -> Path:
    """Pictures of one grey each; even ones are `small`, odd ones `big`; the colour name follows the grey."""
    (folder / "pictures").mkdir()
    rows = {"image": [], "size": [], "tone": [], "side": []}
    for k in range(num_pictures):
        Image.new("L", (8 + k, 9), 20 * k).save(folder / "pictures" / f"{k}.png")
        rows["image"].append(f"{k}.png")
        rows["size"].append("small" if k % 2 == 0 else "big")
        rows["tone"].append(k // 5)
        rows["side"].append("test" if k >= 7 else "train")
    pa.parquet.write_table(pa.table(rows), folder / "labels.parquet")
    pa.csv.write_csv(pa.table(rows), folder / "labels.csv")
    return folder / "pictures"


@pytest.mark.parametrize("table", ["labels.parquet", "labels.csv"])
def test_a_folder_with_a_table_is_a_data_set(tmp_path: Path, table: str) -> None:
    pictures = _folder(tmp_path)
    data = load_image_table(pictures, tmp_path / table, tasks=("size", "tone"), split_column="side", image_size=16)
    assert data.classes == {"size": ("big", "small"), "tone": ("0", "1")}
    assert data.train.x.shape == (7, 3, 16, 16)
    assert data.train.x[:, 0, 0, 0].tolist() == [0, 20, 40, 60, 80, 100, 120]
    assert data.train.y["size"].tolist() == [1, 0, 1, 0, 1, 0, 1]
    assert data.test.y["tone"].tolist() == [1, 1, 1]


def test_without_a_split_column_a_fifth_of_every_class_is_held_out(tmp_path: Path) -> None:
    data = load_image_table(_folder(tmp_path), tmp_path / "labels.csv", tasks={"extent": "size"})
    assert (len(data.train), len(data.test)) == (8, 2)
    assert sorted(data.test.y["extent"].tolist()) == [0, 1]


def test_mistakes_in_a_table_are_named(tmp_path: Path) -> None:
    pictures = _folder(tmp_path)
    csv = tmp_path / "labels.csv"

    def refused(match: str, table: Path = csv, **options: object) -> None:
        with pytest.raises(ValueError, match=match):
            load_image_table(pictures, table, **({"tasks": ["size"]} | options))

    refused("there is no label table", table=tmp_path / "none.csv")
    refused("has no column 'weight'; its columns are 'image', 'size', 'tone', 'side'", tasks=["weight"])
    refused("at least one label column", tasks=[])
    refused('row 1: split is \'small\'; it must be "train" or "test"', split_column="size")
    for name, rows, match in [
        ("lost", "image,size\n0.png,a\nlost.png,b\n", r"row 2: .*lost\.png is not there"),
        ("outside", "image,size\n../labels.csv,a\n0.png,b\n", r"row 1: \.\./labels\.csv lies outside"),
        ("gap", "image,size\n0.png,a\n1.png,\n2.png,b\n", "row 2 has no label for any task"),
        ("single", "image,size\n0.png,a\n1.png,a\n", "column 'size': 1 class"),
        ("empty", "image,size\n", "has no rows"),
    ]:
        (tmp_path / f"{name}.csv").write_text(rows)
        refused(match, table=tmp_path / f"{name}.csv")
    (tmp_path / "bad.parquet").write_bytes(b"no table")
    refused("cannot be read", table=tmp_path / "bad.parquet")


def test_disaster_scenes_depend_on_seed_and_place_alone() -> None:
    data = load_medic_like(num_train=60, num_test=20, seed=5)
    assert data.num_classes == {"damage_severity": 3, "disaster_type": 5}
    assert data.train.x.shape == (60, 3, 64, 64)
    fewer = load_medic_like(num_train=7, num_test=3, seed=5)
    assert fewer.train.x.equal(data.train.x[:7])
    assert not load_medic_like(num_train=7, num_test=3, seed=6).train.x.equal(fewer.train.x)
    assert not data.train.x[:20].equal(data.test.x)
    assert set(data.train.y["disaster_type"].tolist()) == set(range(5))
    assert set(data.train.y["damage_severity"].tolist()) == set(range(3))
    with pytest.raises(ValueError, match="num_train or num_test is 0"):
        load_medic_like(num_train=0)


def test_severity_goes_with_the_kind_of_disaster() -> None:
    y = load_medic_like(num_train=300, num_test=1, image_size=32, seed=1).train.y
    severity, kind = y["damage_severity"].double(), y["disaster_type"]
    assert severity[kind <= 1].mean() > severity[(kind == 2) | (kind == 3)].mean() + 0.3


def test_severity_is_the_share_under_debris() -> None:
    """Debris is brown: more of it means more pixels with red above green above blue and none of them bright."""
    data = load_medic_like(num_train=80, num_test=1, seed=2)
    red, green, blue = data.train.x.int().unbind(1)
    brown = ((red > green + 5) & (green > blue + 5) & (red < 130)).double().mean((1, 2))
    means = [brown[data.train.y["damage_severity"] == k].mean().item() for k in range(3)]
    assert means[0] < means[1] < means[2]
    assert means[0] < 0.15
    assert means[2] > 0.25


def test_faces_are_held_out_by_person() -> None:
    data = load_faces_like(image_size=32, seed=3)
    assert (len(data.train), len(data.test)) == (1_644, 408)
    assert data.num_classes == {"age_group": 3, "gender": 2, "expression": 6}
    ages = data.train.y["age_group"], data.test.y["age_group"]
    assert (ages[0].bincount() + ages[1].bincount()).tolist() == [58 * 12, 56 * 12, 57 * 12]
    for side in (data.train, data.test):
        assert side.y["expression"][:12].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
        for task in ("age_group", "gender"):  # one person's twelve pictures agree
            assert (side.y[task].view(-1, 12) == side.y[task].view(-1, 12)[:, :1]).all()
    assert load_faces_like(image_size=32, seed=3).test.x.equal(data.test.x)


def test_a_task_set_checks_its_sides() -> None:
    x, none = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(0, 3, 4, 4, dtype=torch.uint8)
    y = {"a": torch.tensor([0, 1])}
    whole, empty = Samples(x=x, y=y), Samples(x=none, y={"a": torch.zeros(0, dtype=torch.int64)})
    options = {"classes": {"a": ("no", "yes")}, "transform": ToUnit(), "eval_transform": ToUnit()}
    with pytest.raises(ValueError, match="the test side has no pictures"):
        TaskSet(train=whole, test=empty, **options)
    with pytest.raises(ValueError, match="the training labels are not those of the tasks a"):
        TaskSet(train=Samples(x=x, y={"b": y["a"]}), test=whole, **options)
