"""Trackers write into real local stores, which are read back; a run never ends because of one."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import raysplit
from raysplit.cli.main import main
from raysplit.config.errors import ConfigError
from raysplit.config.run import check_config
from raysplit.runs.records.files import TRACKED
from raysplit.trackers import TRACKERS, MLflow, TensorBoard
from raysplit.trackers.given import trackers_of
from raysplit.trackers.tracker import End, TrackedRun, Tracker

RUN: dict[str, Any] = {
    "model": {"name": "mlp", "hidden": [8]},
    "data": {"name": "random", "num_samples": 60, "dim": 4, "num_classes": 2},
    "partition": {"name": "iid", "num_owners": 2},
    "algorithm": {"name": "fedavg"},
    "training": {"rounds": 3, "optimizer": {"name": "sgd", "lr": 0.1}},
    "cluster": {"kind": "local"},
}


class Interrupted(Exception):
    """What cuts a run short here."""


class StopAfter(raysplit.Callback):
    def __init__(self, rounds: int) -> None:
        self._rounds = rounds

    def round_ended(self, row: Mapping[str, Any]) -> None:
        if row["round"] == self._rounds:
            raise Interrupted


def cut_short(folder: Path, trackers: list[Any]) -> None:
    with pytest.raises(Interrupted):
        raysplit.train(RUN, output={"trackers": trackers}, folder=folder, callbacks=[StopAfter(2)])


@pytest.mark.slow
def test_tensorboard_has_every_round_once_after_a_resume(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run"
    cut_short(folder, ["tensorboard"])
    result = raysplit.resume(folder)
    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    scalars = {event.step: event.value for event in found.Scalars("test_accuracy")}
    assert scalars == pytest.approx({row["round"]: row["test_accuracy"] for row in result.rows})
    assert [event.step for event in found.Scalars("bytes_total")] == [1, 2, 3]
    assert "training.optimizer.lr: 0.1" in found.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()


@pytest.mark.slow
def test_a_run_that_is_replaced_leaves_no_events(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for _ in range(2):
        raysplit.train(RUN, output={"trackers": ["tensorboard"]}, folder=folder, overwrite=True)
    assert len(list((folder / "tensorboard").iterdir())) == 1


@pytest.mark.slow
def test_mlflow_goes_on_in_the_same_run(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    uri, folder = (tmp_path / "mlruns").as_uri(), tmp_path / "digits"
    cut_short(folder, [{"name": "mlflow", "uri": uri, "experiment": "mine", "tags": {"who": "me"}}])
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("mine")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    result = raysplit.resume(folder)
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "digits")
    assert run.data.params["training.optimizer.lr"] == "0.1"
    assert run.data.tags["who"] == "me"
    losses = client.get_metric_history(run.info.run_id, "train_loss")
    assert {metric.step: metric.value for metric in losses} == pytest.approx(
        {row["round"]: row["train_loss"] for row in result.rows}
    )


@pytest.mark.slow
def test_wandb_writes_offline_and_keeps_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    folder = tmp_path / "run"
    cut_short(folder, [{"name": "wandb", "mode": "offline", "project": "mine"}])
    before = json.loads((folder / TRACKED).read_text())["wandb"]["run_id"]
    raysplit.resume(folder)
    assert json.loads((folder / TRACKED).read_text())["wandb"]["run_id"] == before
    stores = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert {path.stem for path in stores} == {f"run-{before}"}
    assert len(stores) == 2
    written = b"".join(path.read_bytes() for path in stores)
    for name in (b"test_accuracy", b"train_loss", b"training.optimizer.lr"):
        assert name in written


class Breaking(Tracker):
    """Tracker whose store is gone from the second round on."""

    name = "breaking"
    package = "json"

    def __init__(self, *, folder: Path | None = None) -> None:
        super().__init__(folder)
        self.told: list[int | str] = []

    def begin(self, run: TrackedRun) -> None:
        self.told.append(run.algorithm)

    def log(self, round: int, numbers: Mapping[str, float]) -> None:
        self.told.append(round)
        if round == 2:
            raise ConnectionError("the server hung up")

    def end(self, how: End) -> None:
        self.told.append(how)


def test_one_that_fails_is_told_once_and_the_run_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Breaking()
    with caplog.at_level(logging.WARNING):
        result = raysplit.train(RUN, callbacks=[tracker])
    assert result.stopped == "all rounds done"
    assert tracker.told == ["FedAvg", 1, 2]
    (told,) = [record.getMessage() for record in caplog.records if "breaking" in record.getMessage()]
    assert told.startswith("the tracker breaking failed at round 2 and gets nothing more; the run goes on: ")
    assert told.endswith("ConnectionError: the server hung up")


def test_a_store_that_cannot_be_opened_does_not_end_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    result = raysplit.train(RUN, callbacks=[TensorBoard(tmp_path / "file")])
    assert len(result.rows) == 3
    assert "the tracker tensorboard failed at round 1" in caplog.text


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_extra_is_named_before_anything_starts(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(TRACKERS[name], "package", "no_such_package")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["train", "--set", f"output.trackers=[{name}]", "--set", "cluster.kind=local", "--quiet"])
    assert ended.value.code == 2
    assert f"run: pip install 'raysplit[{name}]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["tensorbord"], "unknown tracker 'tensorbord'; did you mean 'tensorboard'"),
        ([{"name": "mlflow", "url": "x"}], "mlflow has no such option; did you mean 'uri'"),
        ([{"uri": "x"}], "a tracker is a name or a mapping with a name"),
        (["wandb", {"name": "wandb"}], "wandb is there 2 times"),
    ],
)
def test_wrong_settings_are_refused(given: list[Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_config({"output": {"trackers": given}})


def test_options_reach_the_tracker(tmp_path: Path) -> None:
    (tracker,) = trackers_of([{"name": "mlflow", "experiment": "mine"}], tmp_path)
    assert isinstance(tracker, MLflow)
    assert tracker.folder == tmp_path
