"""A run that was cut short goes on to the bits that it would have ended with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from disturbed import EVERYTHING, KEPT, Killed, Killer, changes
from killed_driver import kill_driver
from support import same, settings

from raysplit.train.config import check_config
from raysplit.train.folder import Row, read_metrics
from raysplit.train.run import RunResult
from raysplit.train.session import resume_run, run_config


def run_in(folder: Path, **more: Any) -> RunResult:
    return run_config(check_config(settings(**more)), folder=folder)


def cut_short(folder: Path, after: int, **more: Any) -> None:
    with pytest.raises(Killed):
        run_config(check_config(settings(**more)), folder=folder, observers=[Killer(after)])


def comparable(result: RunResult) -> list[Row]:
    timed = {"seconds", "train_seconds_total", "samples_per_s", "device_s", "affinity_s", "joules"}
    return [{key: value for key, value in row.items() if key not in timed} for row in result.rows]


def assert_equal(a: RunResult, b: RunResult) -> None:
    assert a.states.keys() == b.states.keys()
    assert all(same(a.states[label], b.states[label]) for label in a.states)
    assert comparable(a) == comparable(b)
    assert a.traffic == b.traffic


@pytest.mark.parametrize("name", ["fedavg", "splitnn", "minibatch_sfl", "mpsl", "mtsl", "mtl_split", "mas", "hoa"])
def test_resumed_is_undisturbed(name: str, tmp_path: Path) -> None:
    cut_short(tmp_path / "cut", 2, **changes(name))
    assert_equal(resume_run(tmp_path / "cut"), run_in(tmp_path / "whole", **changes(name)))
    rounds = [row["round"] for row in read_metrics(tmp_path / "whole")]
    assert [row["round"] for row in read_metrics(tmp_path / "cut")] == rounds


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("name", EVERYTHING)
def test_resumed_is_undisturbed_wherever_it_was_cut(name: str, after: int, tmp_path: Path) -> None:
    cut_short(tmp_path / "cut", after, **changes(name))
    assert_equal(resume_run(tmp_path / "cut"), run_in(tmp_path / "whole", **changes(name)))


def test_with_a_cohort_that_is_drawn_and_checkpoints_now_and_then(tmp_path: Path) -> None:
    training = {**KEPT, "rounds": 5, "cohort_size": 2}
    more = changes("fedavg", training, reliability={"checkpoint_every": 2})
    cut_short(tmp_path / "cut", 3, **more)
    assert_equal(resume_run(tmp_path / "cut"), run_in(tmp_path / "whole", **more))


def test_without_a_checkpoint_it_begins_anew(tmp_path: Path) -> None:
    more = changes("fedavg", reliability={"checkpoint_every": None})
    cut_short(tmp_path / "cut", 2, **more)
    assert not (tmp_path / "cut" / "checkpoints").exists()
    assert_equal(resume_run(tmp_path / "cut"), run_in(tmp_path / "whole", **more))


def test_cut_between_the_last_round_and_the_end(tmp_path: Path) -> None:
    cut_short(tmp_path / "cut", 3, **changes("fedavg"))
    (tmp_path / "cut" / "model.pt").unlink()
    assert_equal(resume_run(tmp_path / "cut"), run_in(tmp_path / "whole", **changes("fedavg")))
    assert (tmp_path / "cut" / "model.pt").exists()


def test_a_finished_run_and_a_stranger_are_refused(tmp_path: Path) -> None:
    run_in(tmp_path / "whole", **changes("fedavg"))
    with pytest.raises(ValueError, match="has finished; there is nothing left to do"):
        resume_run(tmp_path / "whole")
    with pytest.raises(ValueError, match=r"is not a run folder: it has no config\.yaml"):
        resume_run(tmp_path)


def test_a_driver_that_is_killed_leaves_enough_behind(tmp_path: Path) -> None:
    """SIGKILL: nothing is cleaned up, nothing is written at the end."""
    more = changes("minibatch_sfl")
    kill_driver(tmp_path / "cut", **more)
    result = resume_run(tmp_path / "cut")
    assert_equal(result, run_in(tmp_path / "whole", **more))
    one, other = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("cut", "whole"))
    assert same(one, other)
