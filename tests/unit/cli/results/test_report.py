"""`raysplit report`: a page about runs, the same from a folder and from an object store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from object_stores import STORES
from support import metrics_row, settings

from raysplit.api import train_config
from raysplit.cli.results.report import report
from raysplit.cli.training.train import train
from raysplit.config.run import check_config
from raysplit.runs.report import read_runs
from raysplit.runs.report_page import markdown_table, page

MIB = 2**20


def drawn(folder: Path) -> Path:
    """A run of 40 rounds: owner-1 comes in the second, and owner-0 leaves in the last."""
    folder.mkdir()
    config = {
        "seed": 7,
        "partition": {"name": "iid", "num_owners": 2},
        "algorithm": {"name": "fedavg"},
        "training": {"rounds": 40},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [
        metrics_row(
            i,
            num_members=1,
            bytes=MIB,
            came=["owner-1"] if i == 2 else [],
            left=["owner-0"] if i == 40 else [],
            test_accuracy=i / 100,
        )
        for i in range(1, 41)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "summary.json").write_text(json.dumps({"stopped": "all rounds done"}))
    return folder


def test_a_drawn_page(tmp_path: Path) -> None:
    lines = page(read_runs([drawn(tmp_path / "run")]), "a.png", target=0.3).splitlines()
    assert lines[:8] == [
        "# Runs",
        "",
        "| run | partition | rounds | best | last | MiB sent | s of training | samples/s | rounds to 30.0% |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| FedAvg | iid over 2 owners | 40 of 40 | 40.0% | 40.0% | 40.0 | 20.0 | 20 | 30 |",
        "",
        "![test accuracy over rounds, bytes and seconds](a.png)",
        "",
    ]
    assert lines[8:14] == [
        "## FedAvg",
        "",
        "all rounds done; `seed: 7`",
        "",
        "| round | loss | accuracy | owners | s | MiB sent | members | came | left |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    assert lines[14] == "| 2 | 2.0000 | 2.0% | 1 | 0.50 | 1.00 | 1 | owner-1 |  |"
    assert lines[-1] == "| 40 | 2.0000 | 40.0% | 1 | 0.50 | 1.00 | 1 |  | owner-0 |"
    assert len(lines[14:]) == 20


def test_what_differs_stands_side_by_side(tmp_path: Path) -> None:
    one, other = drawn(tmp_path / "one"), drawn(tmp_path / "other")
    (other / "config.yaml").write_text((other / "config.yaml").read_text().replace("rounds: 40", "rounds: 50"))
    text = page(read_runs([one, other]), None)
    assert (
        "| setting | FedAvg (one) | FedAvg (other) |\n| --- | --- | --- |\n| `training.rounds` | `40` | `50` |" in text
    )
    assert "![" not in text


def test_a_page_from_an_object_store_is_that_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.yaml").write_text(json.dumps(settings()))

    def command(verb: object, *arguments: str) -> None:
        ended = CliRunner().invoke(verb, list(arguments), catch_exceptions=False)  # type: ignore[arg-type]
        assert ended.exit_code == 0, ended.output

    config = str(tmp_path / "c.yaml")
    with STORES["s3"](monkeypatch) as uri:
        place, _, options = uri.partition("?")
        command(train, config, "--quiet", "--name", "a", "--set", f"output.root={uri}")
        command(report, f"{place}/a?{options}", "--output", str(tmp_path / "there.md"))
    text = (tmp_path / "there.md").read_text()
    assert (tmp_path / "there.png").stat().st_size > 10_000
    assert "| owner | server | " in text
    assert "| aggregator | owner | " in text
    assert "Python 3." in text
    command(train, config, "--quiet", "--name", "a", "--set", f"output.root={tmp_path}/runs")
    command(report, str(tmp_path / "runs" / "a"), "--output", str(tmp_path / "here.md"))

    def untimed(page: str) -> list[str]:
        return [
            line for line in page.splitlines() if "MiniBatch" not in line and not line.startswith(("| 1", "| 2", "!"))
        ]

    assert untimed(text) == untimed((tmp_path / "here.md").read_text())


def test_what_is_left_of_a_batch_by_kind_of_value(tmp_path: Path) -> None:
    """Batches of 16 rows of 16 float64: a header of 16, then five bytes and 16 codes a row, and labels of one byte."""
    links = {"smashed": "int8", "gradients": "int8", "labels": "narrow"}
    config = settings(algorithm={"name": "minibatch_sfl", "cut": 1}, links=links, training__rounds=2)
    train_config(check_config(config), folder=tmp_path / "run")
    lines = page(read_runs([tmp_path / "run"]), None).splitlines()
    cells = {line.split(" | ")[0][2:]: line.split(" | ")[3:] for line in lines if line.endswith((" 5.82 |", " 4.00 |"))}
    assert cells == {
        "smashed": ["22.0", "128.0", "5.82 |"],
        "gradients": ["22.0", "128.0", "5.82 |"],
        "labels": ["1.0", "4.0", "4.00 |"],
    }
    assert "| value | MiB | share | bytes a sample | without codecs | times fewer |" in lines


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert markdown_table(["a", "b"], [["x|y", "1"]]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |"


def test_a_run_with_a_loss_alone_shows_it(tmp_path: Path) -> None:
    """A page about a run whose tasks have no classes had empty columns of accuracy and no word of its test loss."""
    folder = drawn(tmp_path / "run")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in lines:
        row["test_loss"] = 3.0 + row["round"] / 8
        del row["test_accuracy"]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    text = page(read_runs([folder]), "run.png")
    assert "| best loss | last loss |" in text
    assert "| 3.125 | 8 |" in text
    assert "| round | loss | test loss | owners |" in text
    assert "accuracy" not in text


@pytest.mark.parametrize("name", ["report.html", "report.pdf", "report"])
def test_another_format_than_markdown_is_refused(name: str, tmp_path: Path) -> None:
    """Markdown was written into a file named .html."""
    folder = drawn(tmp_path / "run")
    result = CliRunner().invoke(report, [str(folder), "--output", str(tmp_path / name)])
    assert result.exit_code == 2
    assert "the page is Markdown; end it in .md" in result.output
    assert not (tmp_path / name).exists()


def test_a_page_without_a_name_replaces_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = drawn(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    said = [CliRunner().invoke(report, [str(folder)], catch_exceptions=False).stdout for _ in range(2)]
    said.append(CliRunner().invoke(report, [str(folder), "--output", "report.md"], catch_exceptions=False).stdout)
    assert said == ["report: report.md\n", "report: report-2.md\n", "report: report.md (replaced)\n"]
