"""Whatever a data file holds, it is read as it is written, or refused with its name."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from fuzzing import amounts, fuzz, read_or_refused
from hypothesis import strategies as st
from PIL import Image
from strategies.data_files import archives, label_tables, parquets, pictures

from raysplit.data.datasets import load_dataset
from raysplit.data.reading import Reading
from raysplit.data.samples import DataSet
from raysplit.data.sources.shards import open_shards

readings = st.sampled_from(
    [
        Reading(),
        Reading(values="numbers"),
        Reading(values="pixels", max_value=255),
        Reading(values="ids"),
        Reading(layout="channels_last", renumber_labels=True),
        Reading(layout="channels_first", renumber_labels=True),
    ]
)
options = st.sampled_from([{}, {}, {}, {"input_shape": (3,)}, {"input_shape": (0,)}, {"mean": (0.5,), "std": (0.5,)}])


def holds(data: DataSet, x: Any, y: Any, reading: Reading) -> None:
    """Assert that a data set has the samples of two arrays, each once."""
    assert len(data.train) + len(data.test) == len(x) == len(y)
    labels = np.concatenate([side.y.numpy() for side in (data.train, data.test)])
    assert labels.min() >= 0
    assert labels.max() < data.num_classes
    if not reading.renumber_labels:
        assert sorted(labels.tolist()) == sorted(int(label) for label in np.asarray(y).tolist())
    if reading == Reading() and np.asarray(x).dtype != np.uint8:
        found = np.concatenate([side.x.numpy().reshape(-1) for side in (data.train, data.test)])
        assert np.isfinite(found).all()
        assert np.array_equal(np.sort(found), np.sort(np.asarray(x).astype(np.float32).reshape(-1)))


@amounts
def test_archives(share: float, record_property: Any, tmp_path: Path) -> None:
    path = tmp_path / "own.npz"

    def check(given: Any) -> None:
        (content, found), reading, more = given
        path.write_bytes(content)
        data = read_or_refused(lambda: load_dataset(path.name, root=str(tmp_path), reading=reading, **more), "own.npz")
        if data is not None and found is not None:
            holds(data, found["x"], found["y"], reading)

    fuzz(st.tuples(archives(), readings, options), check, inputs=round(2_000 * share), record=record_property)


@amounts
def test_parquet_files(share: float, record_property: Any, tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"

    def check(given: Any) -> None:
        (content, table), reading, more = given
        path.write_bytes(content)
        data = read_or_refused(
            lambda: load_dataset(path.name, root=str(tmp_path), reading=reading, **more), "own.parquet"
        )
        if data is not None and table is not None and "x" in table.column_names:  # others are inputs by name
            holds(data, np.array(table["x"].to_pylist()), np.array(table["y"].to_pylist()), reading)

    fuzz(st.tuples(parquets(), readings, options), check, inputs=round(1_500 * share), record=record_property)


@amounts
def test_shards(share: float, record_property: Any, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()

    def check(given: Any) -> None:
        parts, reading, num_classes = given
        places = [tmp_path / "test.parquet", tmp_path / "train" / "a.parquet", tmp_path / "train" / "b.parquet"]
        for place, (content, _) in zip(places, parts, strict=True):
            place.write_bytes(content)
        root = str(tmp_path)
        source = "data.renumber_labels" if reading.renumber_labels else root
        found = read_or_refused(lambda: open_shards(root, reading=reading, num_classes=num_classes), source)
        for shard in found.shards if found is not None else ():
            samples = read_or_refused(lambda shard=shard: shard.take(range(len(shard))), ".parquet")
            assert samples is None or int(samples.y.max()) < found.outline.num_classes

    given = st.tuples(st.tuples(parquets(), parquets(), parquets()), readings, st.sampled_from([None, None, 2, 1000]))
    fuzz(given, check, inputs=round(1_000 * share), record=record_property)


@amounts
def test_tables_of_labels(share: float, record_property: Any, tmp_path: Path) -> None:
    for number in range(8):
        Image.new("RGB", (6, 6), (number, 0, 0)).save(tmp_path / f"p{number}.png")
    content = io.BytesIO()
    Image.new("RGB", (6, 6)).save(content, "PNG")
    (tmp_path / "a.png").write_bytes(content.getvalue()[:40])

    def check(given: Any) -> None:
        (kind, content), split, fraction = given
        (tmp_path / f"labels.{kind}").write_bytes(content)
        settings = {"table": f"labels.{kind}", "tasks": ["kind", "color"], "split_column": split, "image_size": 6}
        read = {**settings, "val_fraction": fraction}
        data = read_or_refused(lambda: load_dataset("image_table", root=str(tmp_path), **read), str(tmp_path))
        if data is not None:
            assert list(data.train.y) == ["kind", "color"]
            assert len(data.train) + len(data.test) + len(data.val or ()) <= 12

    given = st.tuples(
        label_tables(), st.sampled_from([None, "side", "side", "nothing"]), st.sampled_from([0.0, 0.1, 0.9])
    )
    fuzz(given, check, inputs=round(1_500 * share), record=record_property)


@amounts
def test_folders_of_pictures(share: float, record_property: Any, tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()

    def check(given: Any) -> None:
        contents, size, reading = given
        for number, content in enumerate(contents):
            (tmp_path / ("cats", "dogs")[number % 2] / f"{number}.png").write_bytes(content)
        more = {} if size is None else {"image_size": size}
        data = read_or_refused(
            lambda: load_dataset("ImageFolder", root=str(tmp_path), reading=reading, **more), str(tmp_path)
        )
        if data is not None:
            assert len(data.train) + len(data.test) == len(contents)

    given = st.tuples(st.lists(pictures(), min_size=8, max_size=8), st.sampled_from([None, None, 6, 1]), readings)
    fuzz(given, check, inputs=round(1_000 * share), record=record_property)
