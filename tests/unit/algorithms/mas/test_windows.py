"""In which rounds affinities are measured, and that another measure, or another window, leaves no trace in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from disturbed import Killed, Killer
from mas_support import configured, same_models, train

from raysplit.api import resume, train_config
from raysplit.schedulers.grouping.files import read_history

OF_THE_MIDDLE = {"merged_rounds": 4, "measured_from": 1, "measured_rounds": 2, "partition": [["s"], ["d", "k"]]}


def ran(folder: Path, options: dict[str, Any], name: str = "mas", rounds: int = 5) -> dict[str, list[int]]:
    """Train in a folder; return the rounds in each table of affinities."""
    result = train_config(configured({"name": name, **options}, training__rounds=rounds), folder=folder)
    assert len(result.rows) >= rounds
    tables = ("affinities.parquet", "owner_affinities.parquet")
    return {table: sorted(set(pq.read_table(folder / table)["round"].to_pylist())) for table in tables}


@pytest.mark.parametrize(
    ("options", "measured"),
    [
        ({"merged_rounds": 3}, [0, 1, 2]),
        ({"merged_rounds": 3, "measured_rounds": 2}, [0, 1]),
        ({"merged_rounds": 3, "measured_from": 1}, [1, 2]),
        (OF_THE_MIDDLE, [1, 2]),
    ],
)
def test_affinities_are_of_the_rounds_in_the_window(
    tmp_path: Path, options: dict[str, Any], measured: list[int]
) -> None:
    found = ran(tmp_path / "run", options)
    assert set(map(tuple, found.values())) == {tuple(measured)}
    assert len(read_history(tmp_path / "run")) == len(measured)


def test_tag_measures_from_a_round_on(tmp_path: Path) -> None:
    assert ran(tmp_path / "run", {"measured_from": 1}, name="tag", rounds=2)["affinities.parquet"] == [1]


def test_where_and_how_affinities_are_measured_changes_no_weights() -> None:
    """Groups are named, so that they are the same."""
    usual = train({"name": "mas", **OF_THE_MIDDLE, "measured_from": 0, "measured_rounds": 1}, training__rounds=5)
    other = train({"name": "mas", **OF_THE_MIDDLE, "affinity_by": "loss_correlation"}, training__rounds=5)
    assert same_models(usual.states, other.states)


def test_a_run_that_was_cut_short_before_its_window_goes_on_to_the_same_tables(tmp_path: Path) -> None:
    config = configured({"name": "mas", **OF_THE_MIDDLE, "affinity_by": "loss_correlation"}, training__rounds=5)
    with pytest.raises(Killed):
        train_config(config, folder=tmp_path / "cut", callbacks=[Killer(1)])
    there, here = resume(tmp_path / "cut"), train_config(config, folder=tmp_path / "whole")
    assert same_models(there.states, here.states)
    assert read_history(tmp_path / "cut") == read_history(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "more", "told"),
    [
        (
            {"merged_rounds": 2, "measured_from": 2},
            {},
            "measured_from is 2, and rounds with all tasks merged are 0 to 1",
        ),
        ({"name": "tag", "measured_from": 3}, {}, "measured_from is 3, and rounds with all tasks merged are 0 to 2"),
        (
            {"merged_rounds": 0, "partition": [["s"], ["d", "k"]], "measured_from": 1},
            {},
            "merged_rounds is 0; leave it out",
        ),
        ({"affinity_by": "loss_correlation"}, {"training__batch_size": 1}, "training.batch_size is 1; give 2 or more"),
    ],
)
def test_windows_that_cannot_be(options: dict[str, Any], more: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        train({"name": "mas", **options}, **more)
