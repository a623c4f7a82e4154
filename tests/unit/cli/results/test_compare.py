"""`raysplit compare`: read run folders, also damaged or unfinished ones, as a table, a picture and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from support import metrics_row

from raysplit.cli.results.compare import compare
from raysplit.runs.report import Point, differing_settings, read_runs

MIB = 2**20


def written(
    folder: Path,
    algorithm: str,
    accuracies: list[float | None],
    *,
    seconds: float = 2.0,
    num_bytes: int = MIB,
    rounds: int = 4,
    stopped: str | None = "all rounds done",
    tested: str = "test_accuracy",
    **changes: Any,
) -> Path:
    """A run folder with one row per accuracy; None for a round without evaluation."""
    folder.mkdir(parents=True)
    config = {
        "seed": 0,
        "partition": {"name": "noniid_ratio", "num_owners": 10, "ratio": 0.95},
        "algorithm": {"name": algorithm},
        "training": {"rounds": rounds, "optimizer": {"name": "sgd", "lr": 0.1}},
        "cluster": {"kind": "local"},
        "output": {"name": folder.name},
    } | changes
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    rows: list[dict[str, Any]] = [
        metrics_row(i, bytes=num_bytes, seconds=seconds, num_samples=100) for i in range(1, len(accuracies) + 1)
    ]
    for row, value in zip(rows, accuracies, strict=True):
        row |= {} if value is None else {tested: value}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if stopped is not None:
        (folder / "summary.json").write_text(json.dumps({"stopped": stopped}), encoding="utf-8")
    return folder


@pytest.fixture
def two_runs(tmp_path: Path) -> list[Path]:
    fedavg = written(tmp_path / "a", "fedavg", [0.2, 0.5, 0.4, 0.3], seconds=1.0, num_bytes=2 * MIB)
    split = written(tmp_path / "b", "minibatch_sfl", [0.5, None, 0.75], stopped=None)
    return [fedavg, split]


def test_a_run_in_figures(two_runs: list[Path]) -> None:
    fedavg, split = read_runs(two_runs)
    assert (fedavg.label, fedavg.best_accuracy, fedavg.last_accuracy) == ("FedAvg", 0.5, 0.3)
    assert (fedavg.rounds, fedavg.num_bytes, fedavg.seconds, fedavg.samples_per_s) == (4, 8 * MIB, 4.0, 100.0)
    assert (split.label, split.rounds, split.rounds_planned, split.stopped) == ("MiniBatch-SFL", 3, 4, "cut short")
    assert split.partition == "noniid_ratio (ratio 0.95) over 10 owners"


def test_rounds_without_evaluation_count_for_bytes_and_time(two_runs: list[Path]) -> None:
    split = read_runs(two_runs)[1]
    assert split.curve == (
        Point(round=1, num_bytes=MIB, seconds=2.0, accuracy=0.5),
        Point(round=3, num_bytes=3 * MIB, seconds=6.0, accuracy=0.75),
    )


@pytest.mark.parametrize(("target", "reached_at"), [(0.1, 1), (0.2, 1), (0.21, 2), (0.5, 2), (0.51, None)])
def test_the_first_evaluation_that_reaches_a_target(
    two_runs: list[Path], target: float, reached_at: int | None
) -> None:
    point = read_runs(two_runs)[0].reached(target)
    assert (point.round if point else None) == reached_at


def test_runs_of_one_algorithm_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    runs = [written(tmp_path / name, "fedavg", [0.1]) for name in ("first", "second")]
    assert [run.label for run in read_runs(runs)] == ["FedAvg (first)", "FedAvg (second)"]


def test_an_algorithm_of_the_user_keeps_its_import_path(tmp_path: Path) -> None:
    assert read_runs([written(tmp_path / "a", "mine:Mine", [0.1])])[0].label == "mine:Mine"


def test_settings_that_differ_are_told_but_not_what_is_compared(tmp_path: Path) -> None:
    one = written(tmp_path / "one", "fedavg", [0.1])
    two = written(tmp_path / "two", "splitfed_v2", [0.1], seed=1, cluster={"kind": "ray"}, extra={"only": "here"})
    assert differing_settings(read_runs([one, two])) == {"seed": [0, 1], "extra.only": [None, "here"]}


def test_the_table_shows_results_targets_and_what_was_cut_short(two_runs: list[Path]) -> None:
    result = CliRunner().invoke(compare, [*map(str, two_runs), "--target", "0.5"], env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    lines = [line.split("│")[1:-1] for line in result.output.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in line] for line in lines]
    assert cells == [
        ["FedAvg", "4", "50.0%", "30.0%", "8.0 MiB", "4.0 s", "100"],
        ["MiniBatch-SFL", "3 of 4", "75.0%", "75.0%", "3.0 MiB", "6.0 s", "50"],
        ["FedAvg", "2", "4.0 MiB", "2.0 s"],
        ["MiniBatch-SFL", "1", "1.0 MiB", "2.0 s"],
    ]
    assert "MiniBatch-SFL was cut short after 3 of 4 rounds" in result.output
    assert (two_runs[0].parent / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_json_is_one_document(two_runs: list[Path], tmp_path: Path) -> None:
    figure = tmp_path / "pictures" / "runs.svg"
    arguments = [*map(str, two_runs), "--json", "--target", "0.6", "--figure", str(figure)]
    content = json.loads(CliRunner().invoke(compare, arguments).output)
    assert content["figure"] == str(figure)
    assert figure.exists()
    assert [run["last_accuracy"] for run in content["runs"]] == [0.3, 0.75]
    assert [run["to_target"]["reached"] for run in content["runs"]] == [
        None,
        {"rounds": 3, "bytes": 3 * MIB, "seconds": 6.0},
    ]


def test_runs_that_have_a_loss_alone_are_compared_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that are not classes: the table had two empty columns and there was no picture."""
    drawn: dict[str, list[list[float]]] = {}

    def plot(axes: Any, x: list[float], y: list[float], *, label: str, **_: Any) -> None:
        drawn.setdefault(label, []).append([*x, *y])

    monkeypatch.setattr("matplotlib.axes.Axes.plot", plot)
    mas = written(tmp_path / "a", "mas", [3.0, 1.25, 1.5], seconds=1.0, rounds=3, tested="test_loss")
    merged = written(tmp_path / "b", "all_in_one", [2.5, None, 1.75], rounds=3, tested="test_loss")
    result = CliRunner().invoke(compare, [str(mas), str(merged)], env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    lines = [line.split("│")[1:-1] for line in result.output.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["MAS", "3", "1.25", "1.5", "3.0 MiB", "3.0 s", "100"],
        ["All in one", "3", "1.75", "1.75", "3.0 MiB", "6.0 s", "50"],
    ]
    assert "best loss" in result.output
    assert drawn == {
        "MAS": [[1, 2, 3, 3.0, 1.25, 1.5], [1, 2, 3, 3.0, 1.25, 1.5], [1, 2, 3, 3.0, 1.25, 1.5]],
        "All in one": [[1, 3, 2.5, 1.75], [1, 3, 2.5, 1.75], [2, 6, 2.5, 1.75]],
    }
    assert (tmp_path / "comparison.png").exists()


def test_a_run_with_a_loss_alone_among_others_has_a_column_of_its_own(tmp_path: Path) -> None:
    one = written(tmp_path / "a", "mas", [2.0], rounds=1, tested="test_loss")
    other = written(tmp_path / "b", "fedavg", [0.5], rounds=1)
    result = CliRunner().invoke(compare, [str(one), str(other)], env={"COLUMNS": "120"})
    lines = [line.split("│")[1:-1] for line in result.output.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in line][2:6] for line in lines] == [
        ["–", "–", "2", "2"],
        ["50.0%", "50.0%", "–", "–"],
    ]


def test_runs_without_any_evaluation_still_compare(tmp_path: Path) -> None:
    run = written(tmp_path / "a", "fedavg", [None, None])
    result = CliRunner().invoke(compare, [str(run), "--target", "0.9"])
    assert result.exit_code == 0, result.output
    assert "–" in result.output
    assert "no figure: no run has been evaluated yet" in result.output


def test_a_last_line_that_was_cut_in_the_middle_is_left_out(tmp_path: Path) -> None:
    run = written(tmp_path / "a", "fedavg", [0.1, 0.2], stopped=None)
    whole = (run / "metrics.jsonl").read_text(encoding="utf-8")
    (run / "metrics.jsonl").write_text(whole[:-20], encoding="utf-8")
    assert read_runs([run])[0].rounds == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.jsonl", None, "is not a run folder: it has no metrics.jsonl"),
        ("metrics.jsonl", "", "has no finished round yet"),
        ("metrics.jsonl", "{not json}\n", "is damaged"),
        ("metrics.jsonl", '{"round": 1}\n', "is damaged"),
        ("config.yaml", None, "is not a run folder: it has no config.yaml"),
        ("config.yaml", "- a list\n", "is damaged"),
        ("config.yaml", "training: [", "is damaged"),
        ("summary.json", "{", "is damaged"),
        ("summary.json", "{}", "is damaged"),
    ],
)
def test_a_damaged_folder_is_named(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    run = written(tmp_path / "run", "fedavg", [0.1])
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        read_runs([run])
    assert str(run) in str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere is not a run folder"):
        read_runs([tmp_path / "nowhere"])


def test_figures_have_names_of_their_own(two_runs: list[Path]) -> None:
    """A second comparison replaced the figure of the first."""
    arguments = [str(folder) for folder in two_runs]
    for _ in range(2):
        assert CliRunner().invoke(compare, arguments, catch_exceptions=False).exit_code == 0
    assert {path.name for path in two_runs[0].parent.glob("*.png")} == {"comparison.png", "comparison-2.png"}


def test_a_figure_of_an_unknown_format_is_refused(two_runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"use .png, .pdf or .svg"):
        CliRunner().invoke(compare, [str(two_runs[0]), "--figure", str(tmp_path / "f.xyz")], catch_exceptions=False)
