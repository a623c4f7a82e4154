"""Tables and pictures of sweeps, and the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from rich.console import Console
from support import metrics_row, settings

from raysplit.cli.pictures.sweep import draw_sweep
from raysplit.cli.training.sweep import _Progress, sweep
from raysplit.cli.waiting import Waiting
from raysplit.runs.report_page import markdown_table
from raysplit.sweeps.report import Group, Spread, as_data, read_groups, table
from raysplit.sweeps.sweep import Axis, Cell, cells

TASKS = {"name": "main_label", "num_owners": 3, "alpha": 0.5, "samples_per_owner": 40, "test_samples_per_owner": 20}


def tree(**changes: Any) -> dict[str, Any]:
    return settings(algorithm={"name": "mtsl"}, partition=TASKS, training={"rounds": 1, "batch_size": 20}, **changes)


# -- the table ----------------------------------------------------------------------------------------------------


def run(*accuracies: float, majority: float = 0.7, bytes_per_round: int = 2**20) -> tuple[dict[str, Any], ...]:
    return tuple(
        metrics_row(
            i + 1,
            steps_total=20 * (i + 1),
            bytes_total=bytes_per_round * (i + 1),
            test_accuracy=accuracy,
            min_accuracy=accuracy - 0.1,
            majority_accuracy=majority,
        )
        for i, accuracy in enumerate(accuracies)
    )


def write(cell: Cell, folder: Path, rows: tuple[dict[str, Any], ...]) -> None:
    """A finished run's folder, as far as the report reads it."""
    target = folder / cell.name
    target.mkdir(parents=True)
    (target / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (target / "config.yaml").write_text(yaml.safe_dump({"training": {"rounds": len(rows)}}))
    (target / "summary.json").write_text(json.dumps({"rounds": len(rows), "stopped": "all rounds done"}))


@pytest.fixture
def groups(tmp_path: Path) -> list[Group]:
    """MTSL and training alone, two seeds, at one alpha."""
    axes = [Axis(key="partition.alpha", values=(0.3,)), Axis(key="algorithm.name", values=("mtsl", "local"))]
    grid = cells(tree(), [Axis(key="seed", values=(0, 1)), *axes])
    found = {
        (0, "mtsl"): run(0.5, 0.80, 0.90),
        (1, "mtsl"): run(0.6, 0.75, 0.94),
        (0, "local"): run(0.5, 0.6, 0.90, bytes_per_round=0),
        (1, "local"): run(0.5, 0.6, 0.90, bytes_per_round=0),
    }
    for cell in grid:
        write(cell, tmp_path, found[cell.values["seed"], cell.values["algorithm.name"]])
    return read_groups(grid, tmp_path)


def test_seeds_are_one_line_beside_the_controls(groups: list[Group]) -> None:
    """Mean 92, sd of (90, 94) = 2.8; 80 % after 40 and 60 steps; 95 % never."""
    columns, lines = table(groups, 0.8)
    assert columns == [
        "alpha", "algorithm", "accuracy", "worst owner", "majority label", "local only", "steps to 80%", "MiB to 80%"
    ]  # fmt: skip
    assert lines == [
        ["0.3", "mtsl", "92.0 ± 2.8", "82.0 ± 2.8", "70.0 ± 0.0", "90.0 ± 0.0", "50", "2.5"],
        ["0.3", "local", "90.0 ± 0.0", "80.0 ± 0.0", "70.0 ± 0.0", "90.0 ± 0.0", "60", "0.0"],
    ]
    assert table(groups, 0.92)[1][0][-2:] == ["60 (1 of 2)", "3.0 (1 of 2)"]
    assert table(groups, 0.95)[1][0][-2:] == ["never", "never"]


def test_markdown_and_data(groups: list[Group]) -> None:
    markdown = markdown_table(*table(groups)).splitlines()
    assert markdown[0].startswith("| alpha | algorithm | accuracy |")
    assert markdown[1] == "| --- | --- | --- | --- | --- | --- |"
    data = as_data(groups, 0.8)
    assert data[0]["values"] == {"partition.alpha": 0.3, "algorithm.name": "mtsl"}
    assert data[0]["local_accuracy"] == {"mean": pytest.approx(0.9), "sd": 0.0}
    assert data[0]["steps_to_target"] == {"mean": 50, "sd": pytest.approx(14.142, abs=1e-3), "reached": 2}


def test_spread_of_known_values() -> None:
    assert Spread.of([]) is None
    assert Spread.of([0.4]) == Spread(mean=0.4, sd=0.0, count=1)
    assert Spread.of([1.0, 2.0, 3.0]) == Spread(mean=2.0, sd=1.0, count=3)


def dense(*losses: float) -> tuple[dict[str, Any], ...]:
    return tuple(
        metrics_row(
            i + 1,
            bytes_total=2**20 * (i + 1),
            test_loss=loss,
            tested_on="all",
            owner_loss=loss,
            max_loss=2 * loss,
        )
        for i, loss in enumerate(losses)
    )


def test_runs_without_labels_are_shown_by_their_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sweep over dense tasks ended with ``KeyError: 'test_accuracy'`` after its first run, and drew no figure."""
    grid = cells(tree(), [Axis(key="algorithm.name", values=("mtsl", "local"))])
    for cell, rows in zip(grid, (dense(3.0, 2.0), dense(3.0, 2.5)), strict=True):
        write(cell, tmp_path / "cells", rows)
        console = Console(file=sys.stdout)
        _Progress(console, Waiting(console, "training"), 2, tmp_path)(cell, False)
    assert "algorithm.name=mtsl  loss 2.000, by owner 2.000" in capsys.readouterr().out
    found = read_groups(grid, tmp_path / "cells")
    assert table(found, 2.25) == (
        ["algorithm", "loss", "tested on", "by owner", "worst owner", "local only", "steps to 2.25", "MiB to 2.25"],
        [
            ["mtsl", "2", "all", "2", "4", "2.5", "2", "2.0"],
            ["local", "2.5", "all", "2.5", "5", "2.5", "never", "never"],
        ],
    )
    assert as_data(found, 2.25)[0]["loss"] == {"mean": 2.0, "sd": 0.0}
    draw_sweep(found, tmp_path / "figure.png", title="dense", target=2.25)
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_tasks_of_different_kinds_have_their_own_figures(tmp_path: Path) -> None:
    """Their losses stood there under the names of the tasks alone."""
    own = {
        "task_metric_shape": "accuracy",
        "test_accuracy_shape": 0.5,
        "task_metric_size": "rmse",
        "test_rmse_size": 2.0,
    }
    losses = {"test_loss": 3.0, "test_loss_shape": 1.0, "test_loss_size": 2.0}
    joint = {"primary": 3.0, "primary_metric": "loss", "primary_better": "lower"}
    grid = cells(tree(), [Axis(key="seed", values=(0, 1))])
    for cell in grid:
        write(cell, tmp_path, (metrics_row(1, **own, **losses, **joint),))
    columns, lines = table(read_groups(grid, tmp_path))
    assert columns[-4:] == ["loss", "shape accuracy", "size rmse", "worst owner"]
    assert [text.split(" ")[0] for text in lines[0][-4:-1]] == ["3", "50.0", "2"]


def test_the_table_says_whose_samples_a_result_is_of(tmp_path: Path) -> None:
    """FedAvg's model is tested on all samples, and owner by owner; the control trains alone, on the owners' own."""
    grid = cells(tree(), [Axis(key="algorithm.name", values=("fedavg", "local"))])
    by_owner = {"owner_accuracy": 0.6, "min_accuracy": 0.3, "majority_accuracy": 0.5, "test_loss": 1.0}
    write(grid[0], tmp_path, (metrics_row(1, test_accuracy=0.7, tested_on="all", **by_owner),))
    write(grid[1], tmp_path, (metrics_row(1, test_accuracy=0.6, tested_on="own", **by_owner),))
    columns, lines = table(read_groups(grid, tmp_path))
    assert columns == ["algorithm", "accuracy", "tested on", "by owner", "worst owner", "majority label", "local only"]
    assert lines == [
        ["fedavg", "70.0", "all", "60.0", "30.0", "50.0", "60.0"],
        ["local", "60.0", "own", "60.0", "30.0", "50.0", "60.0"],
    ]


# -- the picture and the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        [{"partition.alpha": a, "algorithm.name": n} for a in (0, 0.1, 0.3, 0.5, 1) for n in ("mtsl", "local")],
        [{"algorithm.name": n} for n in ("mtsl", "fedavg")],
        [{"algorithm.name": n, "partition.name": p} for n in ("mtsl", "fedavg") for p in ("iid", "dirichlet")],
        [{}],
    ],
    ids=["facets", "one key", "words", "seeds alone"],
)
def test_every_shape_of_sweep_can_be_drawn(values: list[dict[str, Any]], tmp_path: Path) -> None:
    found = [
        Group(values=v, runs=(run(0.3, 0.5, 0.7), run(0.4, 0.6, 0.8, bytes_per_round=0 if "local" in v else 9)))
        for v in values
    ]
    picture = tmp_path / "figure.png"
    draw_sweep([*found, Group(values=values[0], runs=())], picture, title="a sweep", target=0.6)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000


def test_the_command_leaves_table_and_picture(tmp_path: Path) -> None:
    config = tmp_path / "tasks.yaml"
    config.write_text(yaml.safe_dump(tree()))
    arguments = [str(config), "--over", "algorithm.name=mtsl,local", "--over", "partition.alpha=0.2,1"]
    arguments += ["--set", f"output.root={tmp_path / 'runs'}", "--target", "0.3"]
    shown = CliRunner().invoke(sweep, arguments, catch_exceptions=False)
    assert shown.exit_code == 0
    assert "majority" in shown.stdout
    folder = tmp_path / "runs" / "sweep-tasks"
    assert (folder / "figure.png").exists()
    assert (folder / "table.md").read_text().count("\n") == 2 + 4
    again = CliRunner().invoke(sweep, [*arguments, "--json"], catch_exceptions=False)
    content = json.loads(again.stdout)
    assert content["failed"] == {}
    assert len(content["table"]) == 4
    assert "(kept)" in again.stderr
