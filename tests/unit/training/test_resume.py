"""A run that was cut short goes on to the bits that it would have ended with."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from disturbed import EVERYTHING, KEPT, Killed, Killer, changes
from killed_driver import kill_driver
from support import same, settings

from raysplit.api import resume, train_config
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.runs.folder import Row, RunFolderUsed, held, read_metrics
from raysplit.runs.result import Result
from raysplit.training.loop import run
from raysplit.training.recovery.checkpoint import Checkpoint, Checkpoints


def run_in(folder: Path, **more: Any) -> Result:
    return train_config(check_config(settings(**more)), folder=folder)


def cut_short(folder: Path, after: int, **more: Any) -> None:
    with pytest.raises(Killed):
        train_config(check_config(settings(**more)), folder=folder, callbacks=[Killer(after)])


def comparable(result: Result) -> list[Row]:
    timed = {"seconds", "train_seconds_total", "samples_per_s", "device_s", "affinity_s", "joules"}
    return [{key: value for key, value in row.items() if key not in timed} for row in result.rows]


def assert_equal(a: Result, b: Result) -> None:
    assert a.states.keys() == b.states.keys()
    assert all(same(a.states[label], b.states[label]) for label in a.states)
    assert comparable(a) == comparable(b)
    assert a.links == b.links


@pytest.mark.parametrize("name", ["fedavg", "splitnn", "minibatch_sfl", "mpsl", "mtsl", "mtl_split", "mas", "hoa"])
def test_resumed_is_undisturbed(name: str, tmp_path: Path) -> None:
    cut_short(tmp_path / "cut", 2, **changes(name))
    assert_equal(resume(tmp_path / "cut"), run_in(tmp_path / "whole", **changes(name)))
    rounds = [row["round"] for row in read_metrics(tmp_path / "whole")]
    assert [row["round"] for row in read_metrics(tmp_path / "cut")] == rounds


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("name", EVERYTHING)
def test_resumed_is_undisturbed_wherever_it_was_cut(name: str, after: int, tmp_path: Path) -> None:
    cut_short(tmp_path / "cut", after, **changes(name))
    assert_equal(resume(tmp_path / "cut"), run_in(tmp_path / "whole", **changes(name)))


def test_with_a_cohort_that_is_drawn_and_checkpoints_now_and_then(tmp_path: Path) -> None:
    training = {**KEPT, "rounds": 5, "cohort_size": 2}
    more = changes("fedavg", training, reliability={"checkpoint_every": 2})
    cut_short(tmp_path / "cut", 3, **more)
    assert_equal(resume(tmp_path / "cut"), run_in(tmp_path / "whole", **more))


def test_the_run_folder_has_all_options_of_the_algorithm(tmp_path: Path) -> None:
    """config.yaml is called resolved, and had none of the algorithm's defaults."""
    cut_short(tmp_path / "cut", 2, **changes("minibatch_sfl"))
    algorithm = yaml.safe_load((tmp_path / "cut" / "config.yaml").read_text())["algorithm"]
    assert algorithm == {
        "name": "minibatch_sfl",
        "cut": 1,
        "sync_every": 3,
        "num_servers": 1,
        "unequal": "cycle",
        "server_forward": "concat",
        "grad_source": "joint",
        "client_grad_scale": "per_client_mean",
    }
    assert_equal(resume(tmp_path / "cut"), run_in(tmp_path / "whole", **changes("minibatch_sfl")))


def test_without_a_checkpoint_it_begins_anew_where_that_is_asked_for(tmp_path: Path) -> None:
    more = changes("fedavg", reliability={"checkpoint_every": None})
    cut_short(tmp_path / "cut", 2, **more)
    assert not (tmp_path / "cut" / "checkpoints").exists()
    with pytest.raises(ValueError, match="cut has 2 finished rounds and there are no checkpoints in"):
        resume(tmp_path / "cut")
    before = (tmp_path / "cut" / "metrics.jsonl").read_text()
    assert_equal(resume(tmp_path / "cut", from_start=True), run_in(tmp_path / "whole", **more))
    assert (tmp_path / "cut" / "earlier-1" / "metrics.jsonl").read_text() == before


def test_cut_between_the_last_round_and_the_end(tmp_path: Path) -> None:
    cut_short(tmp_path / "cut", 3, **changes("fedavg"))
    (tmp_path / "cut" / "model.pt").unlink()
    assert_equal(resume(tmp_path / "cut"), run_in(tmp_path / "whole", **changes("fedavg")))
    assert (tmp_path / "cut" / "model.pt").exists()


def test_a_finished_run_and_a_stranger_are_refused(tmp_path: Path) -> None:
    run_in(tmp_path / "whole", **changes("fedavg"))
    with pytest.raises(ValueError, match="has finished; there is nothing left to do"):
        resume(tmp_path / "whole")
    with pytest.raises(ValueError, match=r"is not a run folder: it has no config\.yaml"):
        resume(tmp_path)


def test_a_driver_that_is_killed_leaves_enough_behind(tmp_path: Path) -> None:
    """SIGKILL: nothing is cleaned up, nothing is written at the end."""
    more = changes("minibatch_sfl")
    kill_driver(tmp_path / "cut", **more)
    result = resume(tmp_path / "cut")
    assert_equal(result, run_in(tmp_path / "whole", **more))
    one, other = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("cut", "whole"))
    assert same(one, other)


def test_only_one_process_writes_to_a_run_folder(tmp_path: Path) -> None:
    """Somebody takes up a run that is thought to be dead and is not: the two wrote into one another's metrics."""
    folder = tmp_path / "run"
    cut_short(folder, 2, **changes("fedavg"))
    before = (folder / "metrics.jsonl").read_bytes()
    with held(folder):
        for attempt in (partial(resume, folder), partial(train_config, overwriting(folder), folder=folder)):
            with pytest.raises(RunFolderUsed, match="another process is writing the run in"):
                attempt()
    assert (folder / "metrics.jsonl").read_bytes() == before
    assert resume(folder).stopped == "all rounds done"


def overwriting(folder: Path) -> Any:
    return check_config(settings(**changes("fedavg"), output={"overwrite": True, "root": str(folder.parent)}))


def test_checkpoints_of_another_run_are_not_taken_for_the_newest(tmp_path: Path) -> None:
    """Kept elsewhere, they outlived a run that was replaced; of the new run's, none was left."""
    elsewhere = {"checkpoint_location": str(tmp_path / "elsewhere")}
    long = changes("fedavg", {**KEPT, "rounds": 9}, reliability=elsewhere)
    run_in(tmp_path / "run", **long)
    (tmp_path / "run").rename(tmp_path / "moved")
    short = changes("fedavg", {**KEPT, "rounds": 4}, reliability=elsewhere)
    with pytest.raises(RunFolderUsed, match="holds the checkpoints of another run"):
        run_in(tmp_path / "run", **short)
    cut_short(tmp_path / "run", 3, output={"overwrite": True}, **short)
    names = sorted(path.name for path in (tmp_path / "elsewhere" / "run").glob("round-*"))
    assert names == ["round-000002.ckpt", "round-000003.ckpt"]


class Failing(Checkpoints):
    """A store that cannot be written to from some round on."""

    from_round = 1

    def save(self, checkpoint: Checkpoint, *, is_best: bool = False) -> None:
        if checkpoint.rounds >= self.from_round:
            raise OSError("no space left")
        super().save(checkpoint, is_best=is_best)


def test_a_store_that_fails_does_not_end_a_run_that_it_served(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = check_config(settings(**changes("fedavg")))
    store = Failing(tmp_path)
    with pytest.raises(OSError, match="no space left"):
        asyncio.run(run(build(config), LocalCluster(), checkpoints=store))
    store.from_round = 2
    found = asyncio.run(run(build(config), LocalCluster(), checkpoints=store))
    assert found.stopped == "all rounds done"
    assert "the checkpoint of round 3 could not be written: no space left" in caplog.text
    assert store.names() == ["round-000001.ckpt"]
