"""A bit that changed in a Parquet file is noticed by every reader, where its pages have checksums."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raysplit.cluster.contract import LinkTraffic
from raysplit.data.datasets import load_dataset
from raysplit.data.partition.report import load_partition, save_partition
from raysplit.data.sources.image_table import load_image_table
from raysplit.data.sources.shards import open_shards
from raysplit.runs.folder import RunFolder
from raysplit.runs.records.read import read_traffic
from raysplit.schedulers.cuts.profiles import load_profile

ROWS = {"x": [[float(i), 0.5] for i in range(40)], "y": [i % 2 for i in range(40)]}


def flip_a_bit(file: Path) -> None:
    """Change the last bit of the first column's values."""
    column = pq.ParquetFile(file).metadata.row_group(0).column(0)
    content = bytearray(file.read_bytes())
    content[
        column.data_page_offset + column.total_compressed_size - (column.data_page_offset - _start(column)) - 1
    ] ^= 1
    file.write_bytes(bytes(content))


def _start(column: Any) -> int:
    return int(column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset)


def _write(file: Path, rows: dict[str, Any], **options: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(rows), file, **{"write_page_checksum": True} | options)


def own(folder: Path) -> tuple[Path, Callable[[], Any]]:
    _write(folder / "own.parquet", ROWS)
    return folder / "own.parquet", lambda: load_dataset("own.parquet", root=str(folder))


def table(folder: Path) -> tuple[Path, Callable[[], Any]]:
    _write(folder / "own.parquet", {"a": [float(i) for i in range(40)], "y": ROWS["y"]})
    columns = {"a": {"kind": "numeric", "mean": 20, "std": 10}, "y": "target"}
    return folder / "own.parquet", lambda: load_dataset("own.parquet", root=str(folder), columns=columns)


def image_table(folder: Path) -> tuple[Path, Callable[[], Any]]:
    for i in range(10):
        Image.new("L", (4, 4), i).save(folder / f"{i}.png")
    _write(folder / "t.parquet", {"image": [f"{i}.png" for i in range(10)], "kind": [i % 2 for i in range(10)]})
    return folder / "t.parquet", lambda: load_image_table(folder, Path("t.parquet"), tasks=["kind"])


def shards(folder: Path) -> tuple[Path, Callable[[], Any]]:
    for name in ("train/a", "train/b", "test"):
        _write(folder / f"{name}.parquet", ROWS)
    return folder / "test.parquet", lambda: open_shards(str(folder))


def partition(folder: Path) -> tuple[Path, Callable[[], Any]]:
    save_partition(folder / "p.parquet", [[0, 2, 4], [1, 3]])  # type: ignore[list-item]
    return folder / "p.parquet", lambda: load_partition(folder / "p.parquet")


def traffic(folder: Path) -> tuple[Path, Callable[[], Any]]:
    run = RunFolder(folder / "run")
    run.begin()
    run.write_tables([LinkTraffic(source="a", destination="b", num_bytes=9, num_messages=2)], {})
    return folder / "run" / "traffic.parquet", lambda: read_traffic(folder / "run")


def profile(folder: Path) -> tuple[Path, Callable[[], Any]]:
    load_profile("vgg19_mpsl_vm").to_parquet(folder / "p.parquet")
    return folder / "p.parquet", lambda: load_profile(folder / "p.parquet")


@pytest.mark.parametrize("made", [own, table, image_table, shards, partition, traffic, profile])
def test_a_changed_bit_is_refused(made: Callable[[Path], tuple[Path, Callable[[], Any]]], tmp_path: Path) -> None:
    """A data file of 40 rows trained with one of its bits turned: another number, and exit 0."""
    file, read = made(tmp_path)
    read()
    flip_a_bit(file)
    with pytest.raises(ValueError, match=r"Parquet|CRC|checksum|damaged") as refused:
        read()
    assert str(file) in str(refused.value)


def test_without_checksums_a_changed_number_is_not_noticed(tmp_path: Path) -> None:
    """docs/data.md says so."""
    _write(tmp_path / "own.parquet", ROWS, write_page_checksum=False, compression="none", use_dictionary=False)
    flip_a_bit(tmp_path / "own.parquet")
    load_dataset("own.parquet", root=str(tmp_path))
