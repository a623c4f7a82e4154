"""Files that fuzzing found to end in an error of a library, or in a message without a name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raysplit.data.datasets import load_dataset
from raysplit.data.failures import refuse_too_large
from raysplit.data.partition.laws import partition
from raysplit.data.reading import Reading
from raysplit.data.sources.dsprites import load_dsprites
from raysplit.data.sources.image_table import load_image_table
from raysplit.data.sources.shards import open_shards


def refused(name: str, folder: Path, **options: Any) -> str:
    with pytest.raises(ValueError) as caught:
        load_dataset(name, root=str(folder), **options)
    assert type(caught.value).__name__ in ("ValueError", "OptionsRefused")
    return str(caught.value)


def test_too_few_samples_are_told_with_the_file(tmp_path: Path) -> None:
    """The message "12 samples are too few to hold out a fifth" did not say of which file."""
    np.savez(tmp_path / "few.npz", x=np.zeros((3, 2)), y=np.arange(3))
    assert refused("few.npz", tmp_path).startswith(f"{tmp_path / 'few.npz'}: 3 samples are too few")


def test_text_as_inputs_is_refused_before_it_is_reshaped(tmp_path: Path) -> None:
    """``input_shape`` beside a column of text ended in "'str' object has no attribute 'size'"."""
    pq.write_table(pa.table({"x": ["a", "b"], "y": [0, 1]}), tmp_path / "text.parquet")
    assert "give a shape of 1 values" in refused("text.parquet", tmp_path, input_shape=[3])
    assert "give numbers of shape [N, ...]" in refused("text.parquet", tmp_path)


def test_a_shape_of_no_values_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((10, 0)), y=np.zeros(10, int))
    assert "input_shape is (0,)" in refused("a.npz", tmp_path, input_shape=[0])


@pytest.mark.parametrize("name", ["own.parquet", "image_table"])
def test_names_of_columns_that_are_no_utf_8_are_refused(tmp_path: Path, name: str) -> None:
    """pyarrow reads such a file, and fails with UnicodeDecodeError when the names are asked for."""
    file = tmp_path / "own.parquet"
    pq.write_table(pa.table({"abcdefgh": [0, 1]}), file, compression="none", store_schema=False)
    file.write_bytes(file.read_bytes().replace(b"abcdefgh", b"\xff\xfebcdefg"))
    options = {"table": "own.parquet", "tasks": ["a"]} if name == "image_table" else {}
    assert str(file) in refused(name, tmp_path, **options)


def test_labels_that_cannot_be_ordered_are_refused(tmp_path: Path) -> None:
    """Labels that are lists ended in "unhashable type: 'list'"."""
    pq.write_table(pa.table({"image": ["a.png"] * 2, "kind": [[1], [2]]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"t\.parquet, column 'kind': labels cannot be ordered"):
        load_image_table(tmp_path, Path("t.parquet"), tasks=["kind"])


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,kind,kind\na.png,x,y\nb.png,y,x\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"t\.csv cannot be read"):
        load_image_table(tmp_path, Path("t.csv"), tasks=["kind"])


def test_two_different_sizes_are_shown(tmp_path: Path) -> None:
    """Pictures of 6 and 8 pixels were "for example (6, 6, 3) and (6, 6, 3)"."""
    for number, size in enumerate((8, 6, 6, 6)):
        (tmp_path / str(number % 2)).mkdir(exist_ok=True)
        Image.new("RGB", (size, size)).save(tmp_path / str(number % 2) / f"{number}.png")
    assert "(6, 6, 3) and (8, 8, 3)" in refused("ImageFolder", tmp_path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"imgs": np.array(1), "latents_classes": np.array(1)}, "are not 64 x 64 sprites"),
        ({"imgs": np.zeros((9, 64, 64), int), "latents_classes": np.zeros((9, 6), int)}, "imgs is int64"),
        ({"imgs": np.full((9, 64, 64), 255, np.uint8), "latents_classes": np.zeros((9, 6), int)}, "pixels up to 255"),
        ({"imgs": np.ones((9, 64, 64), np.uint8), "latents_classes": np.full((9, 6), 2)}, ""),
        ({"imgs": np.ones((9, 64, 64), np.uint8), "latents_classes": np.full((9, 6), 9)}, "shape is 9 in row 0"),
        ({"imgs": np.ones((9, 64, 64), np.uint8), "latents_classes": np.full((8, 6), 1)}, "of 9 rows and"),
    ],
)
def test_sprites_have_the_values_of_sprites(tmp_path: Path, arrays: Any, message: str) -> None:
    """Pixels of 0 and 255 were multiplied by 255, and became 0 and 1."""
    np.savez(tmp_path / "dsprites.npz", **arrays)
    if not message:
        assert int(load_dsprites(tmp_path).train.x.max()) == 255
        return
    with pytest.raises(ValueError, match=r"dsprites\.npz: ") as caught:
        load_dsprites(tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("random", {"num_samples": 10**12}),
        ("random", {"num_classes": 10**11}),
        ("random", {"input_shape": [10**6, 10**6]}),
        ("rooms", {"num_train": 10**9}),
    ],
)
def test_data_beyond_the_memory_are_refused(name: str, options: dict[str, Any]) -> None:
    """``num_samples: 1000000000000`` ended in a MemoryError of NumPy, or was ended by the system."""
    with pytest.raises(ValueError, match=r"GiB of memory are free; take fewer or smaller ones"):
        load_dataset(name, **options)
    refuse_too_large("a few", 10)


def test_shares_beyond_reason_are_refused() -> None:
    labels = np.arange(80) % 4
    with pytest.raises(ValueError, match="give fewer samples_per_owner"):
        partition("main_label", labels, 2, seed=0, alpha=0.5, samples_per_owner=10**9)
    with pytest.raises(ValueError, match=r"dirichlet: alpha is 1e\+308"):
        partition("dirichlet", labels, 2, seed=0, alpha=1e308)


IDS = Reading(values="ids")


@pytest.mark.parametrize(
    ("columns", "reading"),
    [
        ({"x": np.full((20, 2), 1e38, np.float32)}, IDS),
        ({"x": np.full((20, 2), 2**63, np.uint64)}, IDS),
        ({"words": np.full((20, 2), 2**63, np.uint64)}, Reading()),
        ({"x": np.zeros((20, 2)), "y": np.full((20, 2), 2**64 - 1, np.uint64)}, Reading(task="multi_label")),
    ],
)
def test_whole_numbers_that_int64_does_not_hold_are_refused(
    tmp_path: Path, columns: dict[str, Any], reading: Reading
) -> None:
    """An id of 1e38 became a negative one beside numpy's warning, and a target of 2**64 - 1 became -1 without any."""
    np.savez(tmp_path / "far.npz", **{"y": np.arange(20) % 2} | columns)
    number = max(int(values.max()) for values in columns.values())
    name = "y" if "y" in columns else next(iter(columns))
    said = f"{name} holds {number}, which does not fit in 64 bits"
    assert said in refused("far.npz", tmp_path, reading=reading)


def test_a_file_without_samples_and_types_is_refused(tmp_path: Path) -> None:
    """Columns without rows have no type, and the label to show was looked for: "list index out of range"."""
    pq.write_table(pa.table({"X": pa.array([], pa.float64()), "y": pa.array([], pa.null())}), tmp_path / "no.parquet")
    assert "X has no samples" in refused("no.parquet", tmp_path)


def test_shards_may_lack_the_statistics_of_their_labels(tmp_path: Path) -> None:
    """Where no footer said its largest label, the shards ended in "'int' object is not iterable"."""
    (tmp_path / "train").mkdir()
    table = pa.table({"x": [[0.0, 1.0]] * 8, "y": [0, 1] * 4})
    for name in ("test.parquet", "train/a.parquet"):
        pq.write_table(table, tmp_path / name, write_statistics=False)
    assert open_shards(str(tmp_path)).outline.num_classes == 2


def test_shards_with_lists_for_labels_are_named(tmp_path: Path) -> None:
    """The footer has no column ``y`` then: the message was "'y' is not in list"."""
    (tmp_path / "train").mkdir()
    table = pa.table({"x": [[0.0, 1.0]] * 8, "y": [0, 1] * 4})
    pq.write_table(table, tmp_path / "test.parquet")
    pq.write_table(pa.table({"x": table["x"], "y": [[0], [1]] * 4}), tmp_path / "train" / "a.parquet")
    shard = open_shards(str(tmp_path)).shards[0]
    with pytest.raises(ValueError, match=r"a\.parquet"):
        shard.take(range(8))
