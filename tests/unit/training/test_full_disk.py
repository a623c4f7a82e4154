"""A disk that takes no more: the file is named, what was there is whole, and the run goes on to the same bits."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from disturbed import KEPT, changes
from support import same, settings

import raysplit
from raysplit.config.run import RunConfig, check_config
from raysplit.disk import NotWritten, append_line, written
from raysplit.runs.callback import Callback
from raysplit.runs.folder import Row


@contextmanager
def full_disk(free_bytes: int) -> Iterator[None]:
    """Let no file grow beyond some bytes, as the system does it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Fills(Callback):
    """Fills the disk after a round: no file can be longer than ``free_bytes`` from then on."""

    def __init__(self, after_round: int, free_bytes: int) -> None:
        self.after_round, self.free_bytes = after_round, free_bytes

    def round_ended(self, row: Row) -> None:
        if row["round"] == self.after_round:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.free_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def config(**reliability: Any) -> RunConfig:
    return check_config(settings(**changes("fedavg", KEPT, reliability=reliability)))


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if "part" in path.suffix or path.name == ".lock"]


@pytest.mark.parametrize(
    ("reliability", "after_round", "free_bytes", "file", "rounds"),
    [
        ({}, 1, 100, "checkpoints/round-000002.ckpt", 1),
        ({}, 2, 100, "checkpoints/round-000003.ckpt", 2),
        ({"checkpoint_every": None}, 2, 100, "metrics.jsonl", 2),
        ({"checkpoint_every": None}, 2, 3000, "metrics.parquet", 3),
        ({"checkpoint_every": None}, 3, 6600, "model.pt", 3),
    ],
)
def test_a_full_disk_ends_a_run_that_goes_on_to_the_same_bits(
    reliability: Any, after_round: int, free_bytes: int, file: str, rounds: int, tmp_path: Path
) -> None:
    """In round 1 a full disk ended the run, in later ones it was a warning; at the end there was "[Errno 28]" without a
    path, or "unexpected pos 20992 vs 20880", and a ``best.ckpt.part`` stayed for good. A run without checkpoints was
    told to go on with a plain resume, which refuses it."""
    folder, whole = tmp_path / "run", raysplit.train(config(**reliability))
    with (
        full_disk(resource.getrlimit(resource.RLIMIT_FSIZE)[1]),
        pytest.raises(
            NotWritten,
            match=r"could not be written: (File too large|the disk took only a part).*; [\d,]+ MiB are free in ",
        ) as caught,
    ):
        raysplit.train(config(**reliability), folder=folder, callbacks=[Fills(after_round, free_bytes)])
    assert str(caught.value).startswith(f"{folder}/{file} ")
    way = f"train again: raysplit resume {folder} --from-start" if reliability else f"go on: raysplit resume {folder}"
    assert str(caught.value).endswith(f"make room there, then {way}")
    assert left(folder) == []
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["round"] for line in lines] == list(range(1, rounds + 1))
    (folder / "model.pt.part").touch()  # as a killed process leaves it
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "best.ckpt.part").touch()
    assert same(raysplit.resume(folder, from_start="checkpoint_every" in reliability), whole)
    assert left(folder) == []


def test_a_disk_that_is_full_from_the_start_leaves_nothing_in_the_way_of_the_next_try(tmp_path: Path) -> None:
    with full_disk(100), pytest.raises(NotWritten, match=r"config\.yaml could not be written.*and try again"):
        raysplit.train(config(), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    raysplit.train(config(), folder=tmp_path / "run")


def test_a_run_without_its_disk_tells_the_error_that_ended_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Ends(Fills):
        def round_ended(self, row: Row) -> None:
            super().round_ended(row)
            raise KeyError("mine")

    with full_disk(resource.getrlimit(resource.RLIMIT_FSIZE)[1]), pytest.raises(KeyError, match="mine"):
        raysplit.train(config(), folder=tmp_path / "run", callbacks=[Ends(1, 100)])
    assert "metrics.parquet could not be written" in caplog.text


def test_a_file_is_whole_or_as_before(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("before", encoding="utf-8")

    def write(error: Exception) -> None:
        with written(path) as aside:
            aside.write_text("after", encoding="utf-8")
            raise error

    with pytest.raises(NotWritten, match="a could not be written: No space left on device; "):
        write(OSError(28, "no"))
    with pytest.raises(NotWritten, match=r"a could not be written: the disk took only a part of it \(unexpected pos"):
        write(RuntimeError("unexpected pos 20992 vs 20880"))
    with pytest.raises(KeyError):
        write(KeyError("mine"))
    with full_disk(10), pytest.raises(NotWritten):
        append_line(path, "much more than ten bytes")
    assert path.read_text(encoding="utf-8") == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_overwriting_removes_the_best_checkpoint_too(tmp_path: Path) -> None:
    """Kept elsewhere, the best checkpoint of a replaced run stayed beside those of the new one."""
    place = {"checkpoint_location": str(tmp_path / "kept")}
    raysplit.train(config(**place), folder=tmp_path / "run")
    best = tmp_path / "kept" / "run" / "best.ckpt"
    before = best.stat().st_mtime_ns
    raysplit.train(config(**place), folder=tmp_path / "run", overwrite=True)
    assert best.stat().st_mtime_ns != before
