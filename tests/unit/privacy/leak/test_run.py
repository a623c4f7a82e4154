"""Measure small runs: what each observer gets, beside chance, the same in bits each time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from support import settings

import raysplit
from raysplit.cli.privacy.leak import leak
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.data.inputs import Input
from raysplit.models.spec import ModelSpec
from raysplit.privacy.leak.run import LeakOptions, measure_run
from raysplit.privacy.seen.rows import require_rows
from raysplit.privacy.seen.views import sight_of
from raysplit.runs.records.damaged import Damaged
from raysplit.runs.records.leakage import leak_sentences
from raysplit.runs.report import readable_runs
from raysplit.runs.report_page import page

VECTORS: dict[str, Any] = {"model__dtype": "float32", "evaluation": {"every": 2}}
PICTURES: dict[str, Any] = {
    "model": {"name": "cnn8"},
    "data": {"name": "digits", "train_samples": 150, "test_samples": 60},
    "algorithm": {"name": "minibatch_sfl", "cut": 2},
    "training": {"rounds": 1, "batch_size": 16},
}


def trained(folder: Path, **changes: Any) -> Path:
    raysplit.train(settings(**changes), folder=folder)
    return folder


def unseconded(page: Any) -> Any:
    return {**page, "attacks": [{k: v for k, v in row.items() if k != "seconds"} for row in page["attacks"]]}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "pictures", **PICTURES)


def test_a_run_is_measured_twice_with_the_same_numbers_and_goes_on_where_it_was_cut_short(pictures: Path) -> None:
    options = LeakOptions(attacks=("inverse_affine",), rows=40)
    first = measure_run(pictures, options)
    (row,) = first.page["attacks"]
    assert (row["name"], row["observer"], row["knows"], row["data"]) == (
        "inverse_affine",
        "server+aggregator",
        "K3",
        "D2",
    )
    assert row["ssim"] > 0.9 > row["ssim_chance"]
    assert 0 < row["nmse"] < 0.2
    assert first.page["score"]["MP"] == 1
    assert pq.read_table(pictures / "leak" / "samples.parquet").num_rows == 40
    resumed = measure_run(pictures, options)
    assert resumed.page == first.page
    shutil.rmtree(pictures / "leak")
    assert unseconded(measure_run(pictures, options).page) == unseconded(first.page)


def test_a_copy_learns_from_the_servers_part_of_each_step_of_the_whole_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy once learned from the server's first weights alone, so that it got far less than there is to get."""
    seen: list[torch.Tensor] = []

    def watched(record: Any, copy: Any, z: torch.Tensor, aux: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        seen.extend(step.top(z[:4]).detach() for step in record)
        return aux[: len(z)]

    monkeypatch.setattr("raysplit.privacy.leak.inversions.sdar", watched)
    monkeypatch.setattr("raysplit.privacy.leak.trials._RECORD_BYTES", 0)
    run = trained(tmp_path / "run", **PICTURES | {"training": {"rounds": 3, "batch_size": 4}})
    measure_run(run, LeakOptions(attacks=("pseudo_client",), knows="initial", rows=16))
    steps = 3 * 13  # one of three is kept where the record has no room
    assert len(seen) == steps // 3
    assert len({tuple(logits.flatten().tolist()) for logits in seen}) == len(seen)


def test_the_command_prints_each_attack_beside_chance_and_draws_pictures(pictures: Path) -> None:
    given = [str(pictures), "--attacks", "inverse,unsplit,membership", "--rows", "32", "--seconds", "0.2"]
    result = CliRunner().invoke(leak, given, env={"COLUMNS": "100"}, catch_exceptions=False)
    assert result.exit_code == 0
    assert "inverse*" in result.output
    assert "stopped by --seconds" in result.output
    assert "guarantee: none" in result.output
    assert (pictures / "leak" / "reconstructions.png").stat().st_size > 5_000
    written = json.loads((pictures / "leak" / "leak.json").read_text())
    assert {row["name"] for row in written["attacks"]} == {"inverse", "unsplit", "membership"}
    assert all(row["truncated"] for row in written["attacks"] if row["name"] == "inverse")


def test_attackers_adapt_to_guards_and_the_ledger_is_asked(tmp_path: Path) -> None:
    """The decoder is trained on what a guard lets pass, and gets less through much noise."""
    guard = {"z": {"clip": 1.0, "noise": 2.0}, "rehearsal": True}
    run = trained(tmp_path / "guarded", **PICTURES, privacy=guard)
    measured = measure_run(run, LeakOptions(attacks=("inverse_affine",), rows=40)).page
    (row,) = measured["attacks"]
    assert row["ssim"] < 0.7
    assert measured["defence"]["privacy"]["z"]["clip"] == 1.0
    assert (measured["cheap"]["2"]["sigma"], measured["cheap"]["2"]["rho"]) == (2.0, None)  # that of the guard
    assert measured["cheap"]["2"]["fisher_bound"] > 0.9
    assert measured["ledger"]["guarantee"] == "rehearsal"
    assert measured["score"] is None  # nobody has said what the task reaches without
    again = measure_run(run, LeakOptions(attacks=("inverse_affine",), rows=40, undefended=0.9)).page
    assert again["attacks"] == measured["attacks"]
    assert again["score"]["MP"] < 1


def test_a_report_says_what_was_measured(pictures: Path, tmp_path: Path) -> None:
    measure_run(pictures, LeakOptions(attacks=("inverse_affine",), rows=40))
    sentences = leak_sentences(pictures)
    assert sentences[0].startswith("Cut 2: leak by Fisher information 0.")
    assert "inverse_affine of server+aggregator (K3/D2): SSIM 0.9" in sentences[-1]
    assert "What it leaks: Cut 2" in page(readable_runs([pictures])[0], None)
    assert leak_sentences(tmp_path) == []
    (tmp_path / "leak").mkdir()
    (tmp_path / "leak" / "leak.json").write_text('{"owner": 3}')
    with pytest.raises(Damaged, match=r"leak.json"):
        leak_sentences(tmp_path)


def test_labels_that_stay_at_home_are_read_off_the_gradients(tmp_path: Path) -> None:
    run = trained(tmp_path / "u", **VECTORS, algorithm={"name": "mpsl", "cuts": [1, 2]})
    measured = measure_run(run, LeakOptions(attacks=("labels",), rows=64)).page
    found = {(row["name"], row["round"]): row for row in measured["attacks"]}
    assert found["known weights", "last"]["label_accuracy"] == 1
    assert found["enumerate", "last"]["label_accuracy"] == 1
    assert found["clusters", 0]["label_accuracy"] > found["clusters", 0]["label_accuracy_chance"] + 0.3
    assert {row["observer"] for row in measured["attacks"]} == {"node-1"}


def test_updates_of_a_whole_model_give_samples_and_members(tmp_path: Path) -> None:
    run = trained(tmp_path / "f", **VECTORS, algorithm={"name": "fedavg"})
    measured = measure_run(run, LeakOptions(rows=32)).page
    rows = {(row["name"], row.get("batch"), row["round"]): row for row in measured["attacks"]}
    single = rows["gradient", 1, 0]
    assert single["labels_right"] == 1
    assert single["nmse"] < 0.1
    assert 0 <= rows["membership", None, "last"]["auc"] <= 1
    assert measured["cheap"] == {}


@pytest.mark.parametrize(
    ("algorithm", "views", "keeps", "knows"),
    [
        ({"name": "fedavg"}, [], True, "aggregator"),
        ({"name": "splitnn"}, [(1, "server")], False, "next owner"),
        ({"name": "splitfed_v1"}, [(1, "server")], False, "aggregator"),
        ({"name": "mtsl"}, [(1, "server")], False, "coordinator"),
        ({"name": "mpsl", "cuts": [1, 2]}, [(1, "node-1"), (2, "node-1")], True, "aggregator"),
    ],
)
def test_who_sees_what(algorithm: dict[str, Any], views: list[Any], keeps: bool, knows: str) -> None:
    sight = sight_of(build(check_config(settings(algorithm=algorithm))).begin(), "owner-0")
    assert [(view.cut, view.observer) for view in sight.views] == views
    assert (sight.keeps_labels, sight.knows_part) == (keeps, knows)


def test_what_cannot_be_measured_is_refused_with_the_way_out(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"labels does not fit this run.*labels do not stay"):
        measure_run(pictures, LeakOptions(attacks=("labels",)))
    with pytest.raises(ValueError, match=r"no owner 'owner-9'.*owner-0"):
        measure_run(pictures, LeakOptions(owner="owner-9"))
    with pytest.raises(ValueError, match=r"no attack here is one of 'node-7'.*server"):
        measure_run(pictures, LeakOptions(attacks=("inverse",), observer="node-7"))
    with pytest.raises(ValueError, match="round 5 is not among"):
        measure_run(pictures, LeakOptions(rounds=(5,)))
    with pytest.raises(ValueError, match=r"unknown attack 'invers'.*inverse"):
        LeakOptions(attacks=("invers",))
    with pytest.raises(ValueError, match=r"--aux diabetes.*shape"):
        measure_run(pictures, LeakOptions(aux="diabetes"))
    unfinished = tmp_path / "unfinished"
    shutil.copytree(pictures, unfinished)
    (unfinished / "model.pt").unlink()
    with pytest.raises(ValueError, match=r"no model.pt.*--cuts all"):
        measure_run(unfinished, LeakOptions())


def test_cuts_of_a_configuration_are_measured_before_training(tmp_path: Path) -> None:
    config = tmp_path / "my.yaml"
    config.write_text(json.dumps(settings(**PICTURES)), encoding="utf-8")
    result = CliRunner().invoke(leak, [str(config), "--json", "--rows", "64"], catch_exceptions=False)
    cuts = json.loads(result.output)["cuts"]
    assert [cut["cut"] for cut in cuts] == [1, 2, 3, 4]
    assert all(-0.1 < cut["dcor2_unbiased"] <= 1 and 0 <= cut["leak_fisher"] < 1 for cut in cuts)
    assert cuts[0]["leak_fisher"] > cuts[-1]["leak_fisher"]
    shown = CliRunner().invoke(leak, [str(config), "--cuts", "1,3", "--rows", "64"], catch_exceptions=False)
    assert "measured before training" in shown.output
    refused = CliRunner().invoke(leak, [str(config), "--attacks", "sdar"])
    assert "--attacks is for a run" in refused.output


def test_tokens_are_refused_by_name() -> None:

    spec = ModelSpec(name="mlp", inputs={"x": Input(dtype=torch.int64, shape=(5,))}, num_classes=2, seed=0)
    with pytest.raises(ValueError, match="tokens and several inputs no attack"):
        require_rows(spec)
