"""Callbacks are told everything in order; one that raises is named, and passed over where that is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import same, settings, train

import raysplit
from raysplit.runs.folder import Row


class Diary(raysplit.Callback):
    def __init__(self) -> None:
        self.events: list[Any] = []

    def run_started(self, experiment: raysplit.Experiment) -> None:
        self.events.append(("started", experiment.method))

    def round_ended(self, row: Row) -> None:
        self.events.append(("round", row["round"]))

    def evaluated(self, row: Row) -> None:
        self.events.append(("evaluated", row["round"]))

    def checkpoint_kept(self, rounds: int, location: str) -> None:
        self.events.append(("kept", rounds, Path(location).name))

    def run_ended(self, result: raysplit.Result) -> None:
        self.events.append(("ended", result.stopped))

    def run_failed(self, error: BaseException) -> None:
        self.events.append(("failed", type(error).__name__))


def test_callbacks_are_told_everything_in_order(tmp_path: Path) -> None:
    diary = Diary()
    raysplit.train(**settings(evaluation={"every": 2}), folder=tmp_path / "run", callbacks=[diary])
    assert diary.events == [
        ("started", "minibatch_sfl"),
        ("kept", 1, "checkpoints"),
        ("round", 1),
        ("kept", 2, "checkpoints"),
        ("round", 2),
        ("evaluated", 2),
        ("ended", "all rounds done"),
    ]


class Broken(raysplit.Callback):
    def round_ended(self, row: Row) -> None:
        raise KeyError("no such column")


def test_a_callback_that_raises_ends_the_run_and_is_named(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    diary = Diary()
    with pytest.raises(KeyError) as caught:
        raysplit.train(**settings(), folder=tmp_path / "run", callbacks=[Broken(), diary])
    assert "Broken.round_ended" in caught.value.__notes__[0]
    assert "set reliability.on_callback_error to continue" in caught.value.__notes__[0]
    assert "Broken.round_ended failed: KeyError" in caplog.text
    assert diary.events[-1] == ("failed", "KeyError")
    assert len(raysplit.load(tmp_path / "run").rows) == 1  # nothing is lost
    assert same(raysplit.resume(tmp_path / "run"), train())


def test_a_callback_that_raises_is_passed_over_where_that_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    diary = Diary()
    found = raysplit.train(**settings(reliability={"on_callback_error": "continue"}), callbacks=[Broken(), diary])
    assert same(found, train())
    assert caplog.text.count("Broken.round_ended failed: KeyError") == 2
    assert diary.events[-1] == ("ended", "all rounds done")
