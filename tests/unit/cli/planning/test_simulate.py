"""``raysplit simulate`` and ``raysplit plan CONFIG``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raysplit.cli.planning.plan import plan
from raysplit.cli.planning.simulate import simulate_command
from raysplit.config.run import ConfigError

EXAMPLE = str(Path(__file__).parents[4] / "examples" / "mpsl_simulate.yaml")


def simulate(*arguments: str) -> Result:
    return CliRunner().invoke(simulate_command, [EXAMPLE, *arguments], catch_exceptions=False)


def test_a_table_names_the_bottleneck() -> None:
    result = simulate("--owners", "10")
    assert result.exit_code == 0
    assert "10 owners: a round takes 4.87 min" in result.output
    assert "node-3 is the bottleneck" in result.output
    assert "the pipeline is full from 7.8 owners on" in result.output


def test_json_picture_and_timeline(tmp_path: Path) -> None:
    picture, trace, table = (tmp_path / name for name in ("t.png", "t.json", "t.parquet"))
    result = simulate("--owners", "3", "--json", "--picture", str(picture), "--timeline", str(trace))
    record = json.loads(result.output)
    assert record["round_s"][0] == pytest.approx(226.6 + 3.4, rel=0.03)  # three owners: little more than one's loop
    assert record["cuts"] == [2, 16, 26, 35]
    assert {device["device"] for device in record["devices"]} >= {"node-1", "node-2", "node-3", "owner-2"}
    assert record["closed_form"]["lower_bound_s"] <= record["round_s"][0]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert json.loads(trace.read_text())["traceEvents"]
    assert simulate("--owners", "3", "--timeline", str(table)).exit_code == 0
    assert table.stat().st_size > 1000


def test_cuts_are_planned_where_asked() -> None:
    arguments = ("--set", "algorithm.cuts=auto", "--set", "algorithm.units=[2, 34]")
    record = json.loads(simulate("--owners", "4", "--json", *arguments).output)
    assert record["cuts"] == [2, 18, 31, 35]
    result = CliRunner().invoke(plan, [EXAMPLE, "--json", *arguments], catch_exceptions=False)
    planned = json.loads(result.output)
    assert planned["cuts"] == [2, 18, 31, 35]
    assert planned["objective_ms"] == pytest.approx(711.46, rel=1e-4)
    assert planned["owners"] == 30


def test_other_algorithms_have_no_formula() -> None:
    record = json.loads(simulate("--owners", "2", "--json", "--set", "algorithm={name: fedavg}").output)
    assert record["closed_form"] is None
    assert record["round_s"][0] > 2 * 16 * 90  # the whole network on a Raspberry Pi, 32 batches of a minute and a half


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this needs a topology"):
        simulate("--set", "topology=null")
    assert "must end in .parquet or .json" in simulate("--timeline", "t.txt").output
    runner = CliRunner()
    assert "CONFIG already has the profile" in str(runner.invoke(plan, [EXAMPLE, "--owners", "3"]).exception)
    assert "give a CONFIG with a topology, or --profile" in str(runner.invoke(plan, []).exception)
    fedavg = ["--set", "algorithm={name: fedavg}"]
    assert "cuts and nodes are planned for mpsl" in str(runner.invoke(plan, [EXAMPLE, *fedavg]).exception)
