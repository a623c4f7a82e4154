"""An owner's alarm: silent with an honest server, and raised against one that trains something else."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from guarded import guarded
from torch import Tensor

from raysplit.guards.alarm import Alarm, AlarmRaised, read_labels

DIGITS: dict[str, Any] = {
    "model": {"name": "cnn8"},
    "data": {"name": "digits", "train_samples": 600, "test_samples": 50},
    "partition": {"num_owners": 2},
    "training": {"rounds": 2, "batch_size": 32, "optimizer": {"lr": 0.05}},
}


@pytest.mark.parametrize("seed", [0, 1])
def test_honest_runs_are_silent(seed: int) -> None:
    for name in ("splitnn", "minibatch_sfl"):
        guarded(**DIGITS, seed=seed, algorithm={"name": name, "cut": 2}, privacy={"alarm": True})


@pytest.mark.parametrize("seed", [0, 1])
def test_a_server_that_trains_something_else_is_named(seed: int) -> None:
    with pytest.raises(AlarmRaised, match=r"owner-. stops: the gradients that server sent do not depend on its labels"):
        guarded(**DIGITS, seed=seed, algorithm={"name": "guarded:Hijacked", "cut": 2}, privacy={"alarm": True})


def test_without_the_alarm_nobody_notices() -> None:
    guarded(**DIGITS, algorithm={"name": "guarded:Hijacked", "cut": 2})


def test_a_shard_of_one_class_is_left_out_with_a_line(caplog: pytest.LogCaptureFixture) -> None:
    alarm = Alarm()
    with caplog.at_level(logging.INFO, "raysplit"):
        for _ in range(2):
            alarm.add(torch.randn(30, 4), torch.zeros(30))
            alarm.judge("owner-0", ["server"])
    assert alarm.is_over
    assert "owner-0 has samples of one class" in caplog.text


@pytest.mark.parametrize(
    "rows", [torch.zeros(30, 4), torch.ones(30, 4), torch.ones(30, 4) * torch.arange(1, 31)[:, None]]
)
def test_constant_gradients_are_no_signal(rows: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    alarm, labels = Alarm(), torch.arange(30) % 3
    assert read_labels(rows, labels) is None
    for _ in range(2):
        alarm.add(rows, labels)
        alarm.judge("owner-0", ["server"])
    assert "no signal in the gradients of server" in caplog.text


def test_labels_are_read_out_of_what_depends_on_them() -> None:
    labels = torch.arange(200) % 4
    noise = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    honest = torch.eye(4)[labels] @ torch.randn(4, 6, generator=torch.Generator().manual_seed(1)) + 0.05 * noise
    share, chance = read_labels(honest, labels)  # type: ignore[misc]
    assert share > 0.95
    assert chance == pytest.approx(0.25, abs=0.02)
    assert read_labels(noise, labels)[0] < 0.5  # type: ignore[index]
