"""`raysplit inspect`: shapes, types, ranges, classes, owners and problems of data, and what will be done with them."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

import raysplit
from raysplit.cli.results.inspect import inspect


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with `mine.npz`: inputs that are not scaled and labels from 1 on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    x = np.random.default_rng(0).integers(0, 256, (45, 4, 4))
    x[:, 0, 0], x[:, 0, 1] = 0, 255
    np.savez("mine.npz", x=x, y=np.arange(45) % 3 + 1)
    return tmp_path


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(inspect, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 80 or "--json" in arguments
    return result.output


def test_a_file_is_shown_with_its_problems(folder: Path) -> None:
    text = " ".join(shown("mine.npz").split())
    assert "mine.npz: 36 train, 9 test samples" in text
    assert "float32 [4, 4] │ 0 to 255 │" in text
    assert "x: int64 [4, 4], numbers, kept as float32" in text
    assert "problem: x reaches the model as whole numbers from 0 to 255, not scaled; set data.max_value" in text
    assert "no sample of class 0" in text
    assert "owner" not in text


def test_settings_are_heeded_and_owners_shown(folder: Path) -> None:
    sets = ("data.max_value=255", "data.renumber_labels=true", "partition.num_owners=2", "partition.name=iid")
    text = " ".join(shown("mine.npz", *(word for each in sets for word in ("--set", each))).split())
    assert "pixels, divided by 255, one channel added" in text
    assert "float32 [1, 4, 4] │ 0 to 1" in text
    assert "2 owners of 18 samples each" in text
    assert "│ 0 │ 1 │" in text, "class 0 has label 1"
    assert text.endswith("no problems found")


def test_one_is_no_plural(folder: Path) -> None:
    """There were "1 classes" and "1 owners of 10 to 10 samples"."""
    np.savez("one.npz", x=np.random.default_rng(0).random((12, 3)), y=np.zeros(12, int), owner=np.zeros(12, int))
    text = shown("one.npz", "--set", "partition.name=natural_id", "--set", "partition.num_owners=1")
    assert "1 class " in text
    assert "1 owner of 10 samples" in text


def test_a_configuration_and_its_run_say_the_same(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The record is in the run folder, and its problems are warnings of the run."""
    Path("c.yaml").write_text(
        "data: {name: mine.npz}\npartition: {num_owners: 2}\nmodel: {name: mlp}\n"
        "algorithm: {name: fedavg}\ntraining: {rounds: 1}\ncluster: {kind: local}\n"
    )
    record = json.loads(shown("c.yaml", "--json"))
    assert record["owners"]["samples"] == {"owner-0": 18, "owner-1": 18}
    with caplog.at_level(logging.WARNING):
        raysplit.train("c.yaml", folder=folder / "run")
    assert json.loads((folder / "run" / "data.json").read_text()) == record
    assert [message.partition(";")[0] for message in caplog.messages] == [
        "data mine.npz: x reaches the model as whole numbers from 0 to 255, not scaled",
        "data mine.npz: the data have no sample of class 0, so that 1 of 4 outputs can never be right",
    ]
    assert json.loads(shown("run", "--json")) == record


def test_a_run_is_inspected_by_its_name(folder: Path) -> None:
    """``show`` takes the name of a run, and ``inspect`` took it for an unknown data set."""
    run = Path("runs/one")
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("data: {name: mine.npz}\n", encoding="utf-8")
    assert "mine.npz: 36 train, 9 test samples" in shown("one", "--set", "data.root=.")


def test_folders_are_pictures_or_shards(folder: Path) -> None:
    for label in ("a", "b"):
        (folder / "pictures" / label).mkdir(parents=True)
        for i in range(5):
            Image.new("L", (4, 4), 40 * i + 90).save(folder / "pictures" / label / f"{i}.png")
    record = json.loads(shown("pictures", "--json"))
    assert (record["name"], record["samples"]) == ("ImageFolder", {"train": 8, "test": 2})
    (folder / "shards" / "train").mkdir(parents=True)
    for name, rows in (("train/0", 3), ("train/1", 5), ("test", 2)):
        pq.write_table(
            pa.table({"x": [[0.5, i / 9] for i in range(rows)], "y": [i % 2 for i in range(rows)]}),
            folder / "shards" / f"{name}.parquet",
        )
    record = json.loads(shown("shards", "--json"))
    assert (record["samples"], record["owners"]["samples"]) == ({"test": 2}, {"owner-0": 3, "owner-1": 5})


def test_variables_in_paths_are_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``'$DATA/pictures'`` was looked for as a data set of that name, where `data.root` takes it."""
    monkeypatch.setenv("DATA", str(folder))
    for label in ("a", "b"):
        (folder / "pictures" / label).mkdir(parents=True)
        for i in range(5):
            Image.new("L", (4, 4), 40 * i).save(folder / "pictures" / label / f"{i}.png")
    for source, name in (("$DATA/mine.npz", str(folder / "mine.npz")), ("$DATA/pictures", "ImageFolder")):
        assert json.loads(shown(source, "--json"))["name"] == name


def test_settings_that_do_not_apply_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.max_value is 16\.0, and data set digits already says"):
        CliRunner().invoke(inspect, ["digits", "--set", "data.max_value=16"], catch_exceptions=False)
