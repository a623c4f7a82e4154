"""`raysplit demo`: three methods under equal conditions, a picture and a verdict that nobody wrote down beforehand."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from raysplit.cli.results.runs import list_runs
from raysplit.cli.training.demo import LEARNING_RATES, ROUNDS, demo, demo_configs, verdict
from raysplit.config.run import load_config
from raysplit.runs.report import Point, RunReport

EXAMPLE = Path(__file__).parents[4] / "examples" / "minibatch_sfl_digits.yaml"


def test_the_methods_differ_in_algorithm_and_learning_rate_only() -> None:
    plain = [config.model_dump() for config in demo_configs(seed=3, rounds=2, cluster="local").values()]
    for tree in plain:
        tree.pop("algorithm")
        tree.pop("links")  # FedAvg sends no smashed data
        tree["training"]["optimizer"].pop("lr")
    assert plain[0] == plain[1] == plain[2]


def test_the_example_file_is_the_demos_first_run() -> None:
    assert load_config(EXAMPLE) == demo_configs(seed=0, rounds=ROUNDS, cluster="ray")["minibatch_sfl"]


def test_the_demo_ends_with_table_picture_and_verdict(tmp_path: Path) -> None:
    arguments = ["--cluster", "local", "--rounds", "1", "--root", str(tmp_path)]
    result = CliRunner().invoke(demo, arguments, env={"COLUMNS": "120"}, catch_exceptions=False)
    assert result.exit_code == 0
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {*LEARNING_RATES, "comparison.png", "report.html"}
    partitions = {(folder / name / "partition.parquet").read_bytes() for name in LEARNING_RATES}
    assert len(partitions) == 1
    seeds = {yaml.safe_load((folder / name / "config.yaml").read_text())["seed"] for name in LEARNING_RATES}
    assert seeds == {0}
    assert f"picture: {folder / 'comparison.png'}" in result.output
    lines = result.output.splitlines()
    assert lines[-6].startswith("Test accuracy after 1 round: ")
    assert " with compressed links, " in lines[-4]
    assert lines[-1] == f"page:    {folder / 'report.html'}"
    page = (folder / "report.html").read_text()
    assert all(name in page for name in ("MiniBatch-SFL", "FedAvg", "SplitFed V2", " with compressed links, "))
    listed = CliRunner().invoke(list_runs, ["--root", str(tmp_path)]).output
    assert all(f"{folder.name}/{name}" in listed for name in LEARNING_RATES)


def reported(label: str, accuracy: float) -> RunReport:
    return RunReport(
        folder=Path(label), label=label, algorithm=label, partition="", rounds=5, rounds_planned=5, stopped="done",
        num_bytes=1, seconds=1.0, samples_per_s=1.0, settings={},
        curve=(Point(round=5, num_bytes=1, seconds=1.0, accuracy=accuracy),),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ((0.9, 0.5, 0.7), "A 90.0%, C 70.0%, B 50.0%. A leads by 20.0 points.\nRounds to 60%: A 5, B never, C 5."),
        ((0.5, 0.5, 0.7), "C 70.0%, A 50.0%, B 50.0%. C leads by 20.0 points.\nRounds to 60%: A never, B never, C 5."),
    ],
)
def test_the_verdict_says_who_leads_whoever_it_is(accuracies: tuple[float, ...], expected: str) -> None:
    runs = [reported(label, accuracy) for label, accuracy in zip("ABC", accuracies, strict=True)]
    assert verdict(runs, 0.6) == f"Test accuracy after 5 rounds: {expected}"
