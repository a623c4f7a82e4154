"""Files that readers cannot read: one message with the file, the cause and the way out, whatever the library raises."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raysplit.data.datasets import known_dataset, load_dataset
from raysplit.data.reading import Reading
from raysplit.data.record import data_record
from raysplit.data.sources.image_table import load_image_table
from raysplit.data.sources.pictures import eight_bits, read_picture
from raysplit.data.sources.shards import open_shards


def _npz(folder: Path) -> bytes:
    np.savez(folder / "whole.npz", x=np.zeros((6, 2)), y=np.arange(6) % 2)
    return (folder / "whole.npz").read_bytes()


@pytest.mark.parametrize("name", ["broken.npz", "broken.parquet"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY", b"cos\nsystem\n(S'x'\ntR."])
def test_a_broken_file_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    """An .npz of 0 bytes raised EOFError, which the command took for Ctrl-D: exit 130 and no message at all."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} cannot be read \(.*; (save|write)") as raised:
        load_dataset(name, root=str(tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_file_cut_short_is_named(share: float, tmp_path: Path) -> None:
    """An .npz cut in half ended in a traceback of zipfile."""
    content = _npz(tmp_path)
    (tmp_path / "cut.npz").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"cut\.npz cannot be read .*save it again with numpy\.savez, whole"):
        load_dataset("cut.npz", root=str(tmp_path))


def test_one_array_object_arrays_folders_and_empty_sets_are_no_data(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    np.savez(tmp_path / "object.npz", x=np.array([{}], object), y=np.array([0]))
    np.savez(tmp_path / "empty.npz", x=np.zeros((0, 2)), y=np.zeros(0))
    np.savez(tmp_path / "scalar.npz", x=np.float64(1), y=np.zeros(0))
    (tmp_path / "folder.npz").mkdir()
    for name, says in {
        "one": r"it is one array \(\.npy\)",
        "object": "without object arrays",
        "empty": "no samples",
        "scalar": "no samples",
        "folder": "is a folder",
    }.items():
        with pytest.raises(ValueError, match=f"{name}.npz.*{says}"):
            load_dataset(f"{name}.npz", root=str(tmp_path))


def test_a_missing_value_in_parquet_has_its_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [[1.0], None, [2.0]], "y": [0, 1, 0]}), tmp_path / "gap.parquet")
    with pytest.raises(ValueError, match="column x: 1 value is missing, the first in row 1"):
        load_dataset("gap.parquet", root=str(tmp_path))


def test_labels_of_shards_are_checked_against_the_classes_by_the_footers(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    pq.write_table(pa.table({"x": [[1.0], [2.0]], "y": [0, 1]}), tmp_path / "test.parquet")
    pq.write_table(pa.table({"x": [[1.0], [2.0]], "y": [0, 7]}), tmp_path / "train" / "0.parquet")
    (tmp_path / "train" / "._0.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match=r"0\.parquet: column y has the label 7 and there are 2 classes"):
        open_shards(str(tmp_path), num_classes=2)
    assert open_shards(str(tmp_path)).outline.num_classes == 8
    with pytest.raises(ValueError, match="nobody sees all labels"):
        open_shards(str(tmp_path), reading=Reading(renumber_labels=True))


# -- pictures ----------------------------------------------------------------------------------------------------------


def _folder(root: Path, depth: type = np.uint16) -> None:
    rng = np.random.default_rng(0)
    for label, low in (("dark", 0), ("light", 40_000)):
        (root / label).mkdir()
        for i in range(5):
            pixels = rng.integers(low, low + 10_000, (4, 4)).astype(np.uint16)
            Image.fromarray(pixels if depth is np.uint16 else (pixels // 257).astype(np.uint8)).save(
                root / label / f"{i}.png"
            )


def test_pictures_of_16_bits_keep_their_values(tmp_path: Path) -> None:
    """Gray PNGs of 16 bits were cut off at 255: every input was white, and accuracy stayed at chance."""
    _folder(tmp_path)
    data = load_dataset("ImageFolder", root=str(tmp_path))
    assert data.input_shape == (3, 4, 4)
    assert float(data.train.x[data.train.y == 0].max()) < 0.16 < 0.6 < float(data.train.x[data.train.y == 1].min())  # type: ignore[index]
    assert data.done == (
        "x: uint16 [4, 4, 3], pixels, divided by 65535, channels moved from the last dimension to the first",
    )
    small = load_dataset("ImageFolder", root=str(tmp_path), image_size=2)
    assert float(small.train.x[small.train.y == 1].min()) > 0.6  # type: ignore[index]
    of_12_bits = load_dataset("ImageFolder", root=str(tmp_path), reading=Reading(max_value=2**17))
    assert float(of_12_bits.train.x.max()) < 0.5  # type: ignore[union-attr]


def test_pictures_of_12_bits_in_files_of_16_are_told(tmp_path: Path) -> None:
    """Their inputs were 0.04 at most, from which little is learned, and nothing said so."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for i in range(6):
        pixels = np.full((4, 4), 300 * i + 900, np.uint16)
        Image.fromarray(pixels).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    problems = data_record(load_dataset("ImageFolder", root=str(tmp_path)), "mine")["problems"]
    assert "of 65535, so that inputs are" in problems[0]
    assert "set data.max_value (4095 for 12 bits)" in problems[0]
    said = load_dataset("ImageFolder", root=str(tmp_path), reading=Reading(max_value=4095))
    assert data_record(said, "mine")["problems"] == []


def test_pictures_of_8_and_16_bits_may_be_mixed(tmp_path: Path) -> None:
    _folder(tmp_path)
    Image.new("L", (4, 4), 255).save(tmp_path / "light" / "9.png")
    data = load_dataset("ImageFolder", root=str(tmp_path))
    assert float(max(data.train.x.max(), data.test.x.max())) == 1.0  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"of 8 and of 16 bits, to which data\.max_value cannot apply alike"):
        load_dataset("ImageFolder", root=str(tmp_path), reading=Reading(max_value=4095))


def test_a_picture_of_16_bits_becomes_one_of_8(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert eight_bits(read_picture(tmp_path / "deep.png"))[..., 0].tolist() == [[0, 1, 255]]
    Image.fromarray(np.array([[0.5, 7.0]], np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(ValueError, match=r"float\.tiff has pixels from 0\.5 to 7 \(mode F\) and no range"):
        read_picture(tmp_path / "float.tiff")


def test_hidden_files_of_other_programs_are_no_classes(tmp_path: Path) -> None:
    """`.ipynb_checkpoints` among the classes ended in "ImageFolder is not under ..."."""
    _folder(tmp_path, np.uint8)
    for hidden in (tmp_path / ".ipynb_checkpoints", tmp_path / "dark" / ".ipynb_checkpoints", tmp_path / "__MACOSX"):
        hidden.mkdir()
        (hidden / "0-checkpoint.png").write_bytes((tmp_path / "dark" / "0.png").read_bytes())
    (tmp_path / "dark" / "._0.png").write_bytes(b"no picture")
    data = load_dataset("ImageFolder", root=str(tmp_path))
    assert (data.num_classes, len(data.train) + len(data.test)) == (2, 10)


def test_failures_of_a_folder_are_told_apart(tmp_path: Path) -> None:
    """Every failure of a set was told as "not there"."""

    def refused(root: Path, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            load_dataset("ImageFolder", root=str(root))

    refused(tmp_path / "none", r"ImageFolder is not under .*there is no folder .*none\); put the files there")
    refused(tmp_path, "has no folders; put the pictures of each class into a folder of its own")
    for side in ("train", "test"):
        (tmp_path / "sides" / side).mkdir(parents=True)
    refused(tmp_path / "sides", "has the folders test, train, which are sides and no classes")
    _folder(tmp_path, np.uint8)
    (tmp_path / "sides").rename(tmp_path / "zebra")
    refused(tmp_path, r"no valid file for the classes zebra.*put at least one picture into each folder")
    (tmp_path / "zebra").rename(tmp_path.parent / f"{tmp_path.name}-zebra")
    (tmp_path / "dark" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    refused(tmp_path, r"dark/3\.png cannot be read .*repair the picture, or take it away")


def test_a_table_may_leave_labels_out_and_has_16_bits(tmp_path: Path) -> None:
    """A picture with labels for some tasks only was refused."""
    for i, white in enumerate((0, 65535, 32896)):
        Image.fromarray(np.full((4, 4), white, np.uint16)).save(tmp_path / f"{i}.png")
    (tmp_path / "labels.csv").write_text("image,size,tone\n0.png,big,3\n1.png,,4\n2.png,small,\n")
    options = {"tasks": ("size", "tone"), "image_size": 4}
    with pytest.raises(ValueError, match="too few to hold out a fifth"):
        load_image_table(tmp_path, "labels.csv", **options)
    (tmp_path / "sided.csv").write_text("image,size,tone,s\n0.png,big,3,train\n1.png,,4,train\n2.png,small,,test\n")
    data = load_image_table(tmp_path, "sided.csv", split_column="s", **options)
    assert {task: y.tolist() for task, y in data.train.y.items()} == {"size": [0, -100], "tone": [0, 1]}
    assert {task: y.tolist() for task, y in data.test.y.items()} == {"size": [1], "tone": [-100]}
    assert [int(x.max()) for x in data.train.x] == [0, 255]


def _cifar(folder: Path) -> Path:
    """A set of CIFAR10's files, with two samples in each."""
    files = folder / "cifar-10-batches-py"
    files.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        samples = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}
        (files / name).write_bytes(pickle.dumps(samples))
    (files / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    return files


def test_the_broken_or_missing_file_of_a_published_set_is_named(tmp_path: Path) -> None:
    """A missing file of CIFAR was told as "not under ..."; of a broken one, only the folder."""
    files = _cifar(tmp_path)
    assert len(load_dataset("CIFAR10", root=str(tmp_path)).train) == 10
    (files / "data_batch_4").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"^CIFAR10.*/data_batch_4 is not a file of CIFAR"):
        load_dataset("CIFAR10", root=str(tmp_path))
    (files / "data_batch_4").unlink()
    with pytest.raises(ValueError, match=r"^CIFAR10: \S+/data_batch_4 is missing; unpack"):
        load_dataset("CIFAR10", root=str(tmp_path))
    (tmp_path / "train_32x32.mat").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"^SVHN: \S+/train_32x32.mat is broken: it is not the published file"):
        load_dataset("SVHN", root=str(tmp_path))
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"^MNIST: \S+/train-images-idx3-ubyte is broken"):
        load_dataset("MNIST", root=str(tmp_path))


def test_a_pickle_in_an_archive_is_refused_without_numpy_s_advice(tmp_path: Path) -> None:
    """``allow_pickle``, which numpy's message names, is no setting here, and would run code out of the file."""
    np.savez(tmp_path / "own.npz", x=np.array([["a", "b"]] * 4, dtype=object), y=np.arange(4) % 2)
    with pytest.raises(ValueError, match=r"as a pickle, which may run code\); save it again") as raised:
        load_dataset("own.npz", root=str(tmp_path))
    assert "allow_pickle" not in str(raised.value)


def test_a_folder_as_the_name_of_a_set_is_told_how_to_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``data.name=FOLDER`` was an unknown data set, for which another name was suggested."""
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("pictures", "./pictures/", str(tmp_path / "pictures")):
        with pytest.raises(ValueError, match=r"is a folder; .* set data\.name=ImageFolder and data\.root="):
            known_dataset(name)
    (tmp_path / "own.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    for name, says in {"own.csv": "is a file of a kind that is not read", "./x/own.csv": "is no file"}.items():
        with pytest.raises(ValueError, match=rf"{says}; data\.name takes the path of an \.npz"):
            known_dataset(name)


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("image;kind", r"has no column 'image'; its columns are 'image;kind'; divide the columns by commas"),
        ("image,Kind", r"has no column 'kind'; its columns are 'image', 'Kind'; did you mean 'Kind'"),
        (" image,kind", r"has no column 'image'; its columns are ' image', 'kind'; did you mean ' image'"),
    ],
)
def test_a_table_with_other_columns_is_told_what_is_near(head: str, says: str, tmp_path: Path) -> None:
    """Semicolons, capitals and blanks in the head were shown as they are, which looks right."""
    (tmp_path / "t.csv").write_text(f"{head}\na.png,b\n".replace(",", head[5] if head[0] == "i" else ","))
    with pytest.raises(ValueError, match=says):
        load_image_table(tmp_path, table="t.csv", tasks=["kind"], image_size=8)


def test_a_task_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tasks names a column twice"):
        load_image_table(tmp_path, table="t.csv", tasks=["kind", "kind"], image_size=8)
