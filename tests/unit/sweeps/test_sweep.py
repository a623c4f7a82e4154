"""Grids of runs: what is run, what is kept, what the table and the picture say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import settings

from raysplit.api import train_cell
from raysplit.config.errors import ConfigError
from raysplit.config.run import dump_config
from raysplit.experiment.fingerprint import fingerprint
from raysplit.sweeps.report import read_groups, table
from raysplit.sweeps.sweep import Cell, cells, is_finished, parse_axis, run_cells

TASKS = {"name": "main_label", "num_owners": 3, "alpha": 0.5, "samples_per_owner": 40, "test_samples_per_owner": 20}


def tree(**changes: Any) -> dict[str, Any]:
    return settings(algorithm={"name": "mtsl"}, partition=TASKS, training={"rounds": 1, "batch_size": 20}, **changes)


# -- the grid -----------------------------------------------------------------------------------------------------


def test_values_are_yaml() -> None:
    axis = parse_axis("algorithm.learning_rates=auto,{server: 1.0, owners: [0.1, 0.2, 0.3]},null")
    assert axis.key == "algorithm.learning_rates"
    assert axis.values == ("auto", {"server": 1.0, "owners": [0.1, 0.2, 0.3]}, None)
    assert parse_axis("seed=0,1").values == (0, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partition.alpha", "does not have the form"),
        ("alpha=1,2", "does not have the form"),
        ("partition.alpha=", "no values"),
        ("partition.alpha=1,1", "same value twice"),
        ("partition.alpha=[1,", "not valid YAML"),
    ],
)
def test_a_wrong_axis_is_explained(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_axis(text)


def test_all_combinations_the_last_axis_fastest() -> None:
    axes = [parse_axis("partition.alpha=0,1"), parse_axis("algorithm.name=mtsl,local")]
    grid = cells(tree(), axes)
    assert [cell.name for cell in grid] == [
        "partition.alpha=0,algorithm.name=mtsl",
        "partition.alpha=0,algorithm.name=local",
        "partition.alpha=1,algorithm.name=mtsl",
        "partition.alpha=1,algorithm.name=local",
    ]
    assert grid[3].config.partition.options["alpha"] == 1
    assert grid[3].config.algorithm.name == "local"
    assert grid[3].config.training.batch_size == 20


def test_keys_inside_options_can_be_swept() -> None:
    grid = cells(tree(), [parse_axis("algorithm.learning_rates.server=0.1,1")])
    assert [cell.config.algorithm.options["learning_rates"] for cell in grid] == [{"server": 0.1}, {"server": 1}]


def test_a_wrong_combination_is_named_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"with training\.rounds=0: "):
        cells(tree(), [parse_axis("training.rounds=1,0")])
    with pytest.raises(ConfigError, match="swept only once"):
        cells(tree(), [parse_axis("seed=1"), parse_axis("seed=2")])


# -- running ------------------------------------------------------------------------------------------------------


def test_finished_cells_are_kept_and_new_ones_added(tmp_path: Path) -> None:
    told: list[tuple[str, bool]] = []

    def done(cell: Cell, kept: bool) -> None:
        told.append((cell.name, kept))

    run_cells(cells(tree(), [parse_axis("seed=1,2")]), tmp_path, done=done, train=train_cell)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/metrics.jsonl")}
    (tmp_path / "seed=2" / "summary.json").unlink()  # as if it had been cut short
    run_cells(cells(tree(), [parse_axis("seed=1,2,3")]), tmp_path, done=done, train=train_cell)
    assert told == [("seed=1", False), ("seed=2", False), ("seed=1", True), ("seed=2", False), ("seed=3", False)]
    after = {path: path.stat().st_mtime_ns for path in stamps}
    assert [path.parent.name for path in stamps if stamps[path] == after[path]] == ["seed=1"]


def test_a_cell_of_another_sweep_is_not_taken_for_this_one(tmp_path: Path) -> None:
    axis = [parse_axis("seed=1")]
    run_cells(cells(tree(), axis), tmp_path, train=train_cell)
    other = tree() | {"training": {"rounds": 1, "batch_size": 10}}
    with pytest.raises(ConfigError, match=r"training.batch_size 20 for 10\); give the sweep another name"):
        run_cells(cells(other, axis), tmp_path, train=train_cell)


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("reliability", {"aggregation": "median"}),
        ("reliability", {"max_update_norm": 1.0}),
        ("reliability", {"over_selection": 0.2, "round_deadline_s": 5.0}),
        ("cluster", {"kind": "local", "elastic": {}}),
        ("evaluation", {"every": 2}),
        ("links", {"smashed": "float16"}),
    ],
)
def test_whatever_changes_the_numbers_makes_another_sweep(tmp_path: Path, section: str, change: dict[str, Any]) -> None:
    """The same sweep with ``reliability.aggregation=median`` handed out the old results as "(kept)": sweeps and
    recovery had two notions of what numbers depend on."""
    base = tree() | {"algorithm": {"name": "fedavg"}}
    (cell,) = cells(base, [parse_axis("seed=1")])
    (tmp_path / "config.yaml").write_text(dump_config(cell.config), encoding="utf-8")
    (tmp_path / "summary.json").write_text('{"stopped": "all rounds done"}', encoding="utf-8")
    (changed,) = cells(base | {section: change}, [parse_axis("seed=1")])
    assert is_finished(tmp_path, cell.config)
    with pytest.raises(ConfigError, match=rf"finished run with other settings \(.*{section}\.") as caught:
        is_finished(tmp_path, changed.config)
    assert fingerprint(changed.config.model_dump(mode="json")) != fingerprint(cell.config.model_dump(mode="json"))
    assert all(f"{section}.{key}" in str(caught.value) for key in change if key != "kind")


@pytest.mark.parametrize(
    "change",
    [
        {"reliability": {"checkpoint_every": 5, "on_lost_place": "stop", "stall_timeout_s": 5}},
        {"cluster": {"kind": "ray", "places": 2}},
        {"output": {"root": "elsewhere"}},
    ],
)
def test_what_leaves_the_numbers_alone_keeps_the_cell(tmp_path: Path, change: dict[str, Any]) -> None:
    (cell,) = cells(tree(), [parse_axis("seed=1")])
    (tmp_path / "config.yaml").write_text(dump_config(cell.config), encoding="utf-8")
    (tmp_path / "summary.json").write_text('{"stopped": "all rounds done"}', encoding="utf-8")
    (changed,) = cells(tree() | change, [parse_axis("seed=1")])
    assert is_finished(tmp_path, changed.config)


def test_values_that_differ_late_have_folders_of_their_own(tmp_path: Path) -> None:
    """Names had six digits, so that two rates shared a folder and the second run stood for both."""
    grid = cells(tree(), [parse_axis("training.optimizer.lr=0.1,0.1000001,1e-10")])
    assert [cell.name.rpartition("=")[2] for cell in grid] == ["0.1", "0.1000001", "1e-10"]
    with pytest.raises(ConfigError, match=r"two runs would share the folder data\.root=a_b"):
        cells(tree(), [parse_axis("data.root=a/b,a:b")])


def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    grid = cells(tree(), [parse_axis("training.optimizer.lr=1.0e+200,0.1")])
    failed = run_cells(grid, tmp_path, train=train_cell)
    assert list(failed) == ["training.optimizer.lr=1e+200"]
    assert "NonFiniteLoss" in failed["training.optimizer.lr=1e+200"]
    groups = read_groups(grid, tmp_path)
    assert [len(group.runs) for group in groups] == [0, 1]
    assert table(groups, 0.1)[1][0][1:] == ["–"] * 6
