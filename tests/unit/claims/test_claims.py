"""Protocols, records and verdicts: what is run, what goes on where it stopped, and what the runs say of a claim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from claims_support import protocol, record
from click.testing import CliRunner

from raysplit.claims.protocol import cells, load_protocol, protocol_names
from raysplit.claims.records import append_record, kept_columns, read_records
from raysplit.claims.running import progress_of, run_cells
from raysplit.cli.claims.reproduce import reproduce
from raysplit.config.run import RunConfig, check_config

# -- what is run ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", protocol_names())
def test_every_protocol_can_be_run(name: str) -> None:
    """Its cells are configurations that pass every check, and its claims name arms and columns that it keeps."""
    found = load_protocol(name)
    for cell in cells(found):
        check_config(dict(cell.tree))
    for one in found.claims:
        if one.kind in ("difference", "widest", "equal"):
            assert {one.this["arm"], one.that["arm"]} <= found.arms.keys()
            kept = [k for k in (*found.keep, "cpu_s") if one.column == k or one.column.startswith(k.rstrip("*"))]
            assert kept, one.name


@pytest.mark.parametrize("name", protocol_names())
def test_the_runs_of_a_protocol_are_those_that_its_claims_read(name: str) -> None:
    """A claim whose conditions name no run of the protocol would stay `not run` whatever is run."""
    found = load_protocol(name)
    values = [{k: v for k, v in cell.values.items() if k != "seed"} for cell in cells(found)]
    for one in (c for c in found.claims if c.kind in ("difference", "widest", "equal")):
        for condition in one.where:
            for side in (one.this, one.that):
                ignores = (*found.arms[side["arm"]].ignores, *one.choose)
                wanted = {k: v for k, v in {**condition.set, **side}.items() if k not in ignores}
                assert any({k: v for k, v in own.items() if k not in one.choose} == wanted for own in values), one.name


def test_an_arm_that_ignores_a_setting_is_run_once_for_all_its_values() -> None:
    grid = cells(protocol())
    assert [dict(cell.values) for cell in grid[:3]] == [
        {"arm": "a", "partition.ratio": 1.0, "algorithm.cut": 1, "seed": 0},
        {"arm": "b", "partition.ratio": 1.0, "seed": 0},
        {"arm": "a", "partition.ratio": 1.0, "algorithm.cut": 3, "seed": 0},
    ]
    assert len(grid) == 9


def test_other_settings_are_other_runs_and_another_folder_is_not() -> None:
    first = cells(protocol())[0]
    assert cells(protocol(), {"data.root": "there"})[0].digest == first.digest
    assert cells(protocol(), {"training.rounds": 3})[0].digest != first.digest


# -- records and budgets -------------------------------------------------------------------------------------------


class Trainer:
    """Counts what it is asked to train, and takes ten seconds of a clock turned by hand for each."""

    def __init__(self) -> None:
        self.now, self.trained = 0.0, list[RunConfig]()

    def __call__(self, config: RunConfig) -> list[dict[str, Any]]:
        self.now += 10
        self.trained.append(config)
        if len(self.trained) == 2:
            raise ArithmeticError("the loss is nan")
        return [{"round": 1, "test_accuracy": 0.123456789, "seconds": 3.0}, {"round": 2, "train_loss": 1.0}]


def test_what_fits_the_budget_is_run_and_the_rest_goes_on_later(tmp_path: Path) -> None:
    """A diverged run is a result too: it is kept with its reason, and not tried again."""
    found, path, train = protocol(), tmp_path / "tried.jsonl", Trainer()
    grid = cells(found)

    before = train.now
    done = run_cells(found, grid, path, train=train, budget_s=35, now=lambda: train.now, cpu=lambda: 0.0)
    assert (len(done.records), train.now - before) == (3, 30)
    assert [r.failed for r in done.records] == [None, "the loss is nan", None]
    assert done.records[0].columns == {"test_accuracy": [0.123457, None]}
    later = run_cells(found, grid, path, train=train, budget_s=25, now=lambda: train.now, cpu=lambda: 0.0)
    assert (len(later.records), len(train.trained)) == (5, 5)


def test_records_of_other_settings_do_not_count(tmp_path: Path) -> None:
    path, train = tmp_path / "tried.jsonl", Trainer()
    grid = cells(protocol())[:1]
    run_cells(protocol(), grid, path, train=train, budget_s=99, now=lambda: 0.0, cpu=lambda: 0.0)
    other = progress_of(cells(protocol(), {"training.rounds": 3})[:1], path)
    assert (len(other.records), len(other.waiting), other.stale) == (0, 1, 1)
    assert other.left_s == 10


def test_a_line_that_was_cut_short_is_left_out_and_a_broken_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tried.jsonl"
    append_record(path, record("a", 0, 0.5))
    whole = path.read_text()
    path.write_text(whole + whole[:20])
    assert len(read_records(path)) == 1
    path.write_text("nothing\n" + whole)
    with pytest.raises(ValueError, match="line 1 is no record"):
        read_records(path)


def test_columns_are_kept_by_name_and_by_beginning() -> None:
    rows = [{"round": 1, "test_loss": 1.0, "val_loss": 2.0}, {"round": 2, "test_loss_a": 3}]
    assert kept_columns(rows, ["test_*", "round"]) == {
        "round": [1, 2],
        "test_loss": [1.0, None],
        "test_loss_a": [None, 3],
    }


# -- the command ---------------------------------------------------------------------------------------------------


SMALL = """
name: small
title: Small
paper: nobody
about: the digits
settings:
  data: {name: digits, train_samples: 200}
  partition: {name: noniid_ratio, num_owners: 2, ratio: 1}
  training: {rounds: 2}
  cluster: {kind: local}
arms:
  a: {title: A, set: {algorithm.name: minibatch_sfl, algorithm.cut: 1}}
  b: {title: B, set: {algorithm.name: fedavg}}
steps: [{title: all, arms: [a, b], seeds: [0, 1], cost_s: 100}]
keep: [test_accuracy]
curves: {column: test_accuracy, label: accuracy, arms: [a, b], where: [{}]}
claims:
  - {name: c, text: A is better, paper: "<yes>", place: here, takes: seconds, kind: difference, this: {arm: a},
     that: {arm: b}, column: test_accuracy}
"""


def test_a_protocol_is_run_within_a_budget_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run is expected to take 100 s, so that a budget of 50 s begins none; what was run is not repeated."""
    (tmp_path / "small.yaml").write_text(SMALL)
    monkeypatch.setattr("raysplit.claims.protocol.FOLDER", tmp_path)
    page, out = tmp_path / "page.html", tmp_path / "out"
    arguments = ["small", "--set", "training.rounds=1", "--out", str(out), "--report", str(page)]
    none = CliRunner().invoke(reproduce, [*arguments, "--budget", "50s"], catch_exceptions=False)
    assert "0 of 4 runs are done" in none.output
    done = CliRunner().invoke(reproduce, [*arguments, "--budget", "2m"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "not decided" in done.output
    assert len(read_records(out / "small.jsonl")) == 4
    text = page.read_text()
    assert "data:image/png;base64," in text
    assert "&lt;yes&gt;" in text
    assert (out / "small.md").read_text().startswith("# Small\n")
    again = CliRunner().invoke(reproduce, [*arguments, "--budget", "0s", "--json"], catch_exceptions=False)
    assert json.loads(again.output)["runs"] == 4


def test_all_claims_are_listed() -> None:
    done = CliRunner().invoke(reproduce, ["list", "--json"], catch_exceptions=False)
    assert set(json.loads(done.output)) == set(protocol_names())


def test_a_wrong_budget_and_a_wrong_paper_are_explained() -> None:
    wrong = CliRunner().invoke(reproduce, ["mas", "--budget", "soon"])
    assert "such as 30m or 2h" in wrong.output
    assert "minibatch-sfl" in str(CliRunner().invoke(reproduce, ["minibatch"]).exception)
