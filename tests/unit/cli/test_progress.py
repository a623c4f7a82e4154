"""The line of progress: it fits the terminal, and says how long is left and where the time went."""

from __future__ import annotations

import pytest

from raysplit.cli.progress import Clock, clock_text, progress_line, status_line, times_text

ROW = {
    "round": 10,
    "train_loss": 2.2914,
    "test_accuracy": 0.1891,
    "samples_per_s": 17_593.0,
    "bytes_total": 112 * 2**20,
}


@pytest.mark.parametrize("width", [20, 40, 57, 77, 97, 117, 197])
def test_the_line_fits(width: int) -> None:
    """At 80 columns the number of rounds and the time were cut off, and from 112 on only there was a bar."""
    line = progress_line(width, "MiniBatch-SFL", 10, 400, "1:01, 38:22 left", ROW)
    assert len(line) <= width
    if width >= 77:
        assert all(
            part in line for part in ("MiniBatch-SFL", " 10/400", "1:01, 38:22 left", "loss 2.291", "accuracy 0.189")
        )
    if width >= 97:
        assert "━" in line or "┈" in line
        assert "112.0 MiB" in line
    if width >= 117:
        assert "17,593 samples/s" in line


def test_what_matters_least_is_left_out_whole() -> None:
    """With owners' own tests the line ended in "by owner 0.183 (majority label", without title and bar."""
    row = {**ROW, "owner_accuracy": 0.183, "majority_accuracy": 0.872}
    line = progress_line(77, "FedAvg", 1, 3, "0:21, 0:18 left", row)
    assert line.endswith(" 1/3 0:21, 0:18 left loss 2.291 accuracy 0.189, by owner 0.183")
    assert line.startswith("FedAvg ━")
    assert "majority" not in line
    assert "(majority label 0.872)" in progress_line(120, "FedAvg", 1, 3, "0:21, 0:18 left", row)


def test_the_figures_of_several_tasks_make_room() -> None:
    own = {
        "task_metric_shape": "accuracy",
        "test_accuracy_shape": 0.5,
        "task_metric_size": "rmse",
        "test_rmse_size": 1.25,
    }
    joint = {"primary": 1.5, "primary_metric": "loss", "primary_better": "lower", "primary_naive": 2.25}
    row = {**ROW, **own, **joint}
    told = "train loss 2.291 test loss 1.500 (naive 2.250), shape accuracy 0.500, size rmse 1.250 112.0 MiB"
    assert status_line(row) == told  # it was "loss 2.291 loss 1.500"
    line = progress_line(77, "FedAvg", 1, 3, "0:21, 0:18 left", row)
    assert line.endswith("train loss 2.291 test loss 1.500 (naive 2.250)")
    assert progress_line(70, "FedAvg", 1, 3, "0:21, 0:18 left", row).endswith("train loss 2.291 test loss 1.500")


def test_a_huge_loss_is_short() -> None:
    """A loss of 2.07e+23 was written with 24 digits before the point, so that the line was cut."""
    row = {**ROW, "train_loss": 207329053897853685989376.0}
    assert "loss 2.07e+23 accuracy" in status_line(row)
    assert "loss 999999.000" in status_line({**row, "train_loss": 999999.0})
    assert "test loss -1.00e+06" in status_line({"train_loss": 1.0, "test_loss": -1e6, "bytes_total": 0})


def test_with_a_short_title_there_is_a_bar_at_80_columns() -> None:
    line = progress_line(77, "FedAvg", 5, 10, "0:05, 0:05 left", ROW)
    bar = next(word for word in line.split() if set(word) <= {"━", "┈"})
    assert bar.count("━") == pytest.approx(len(bar) / 2, abs=1)


def test_times() -> None:
    assert [clock_text(seconds) for seconds in (0, 59.9, 61, 3600, 36061)] == [
        "0:00", "0:59", "1:01", "1:00:00", "10:01:01",
    ]  # fmt: skip


def test_what_is_left_is_by_the_pace_of_the_rounds_alone() -> None:
    """Ten seconds to start, then two seconds a round: after three of ten, fourteen are left, not thirty-seven."""
    now = [0.0]
    clock = Clock(lambda: now[0])
    assert clock.left_s(0, 10) is None
    for stage, seconds in (("load", 4), ("connect", 6)):
        clock.stage(stage)
        now[0] += seconds
    clock.stage("train")
    for done in (1, 2, 3):
        now[0] += 2
        assert clock.left_s(done, 10) == pytest.approx(2 * (10 - done))
    assert times_text(clock, 3, 10) == "0:16, 0:14 left"
    assert times_text(clock, 10, 10) == "0:16"


def test_a_resumed_run_counts_its_own_rounds() -> None:
    now = [0.0]
    clock = Clock(lambda: now[0])
    clock.stage("train")
    now[0] = 3.0
    assert clock.left_s(21, 40) == pytest.approx(3 * 19)


def test_where_the_time_went() -> None:
    """A run said "8.6 s of training" of the 177 s that it had taken."""
    now = [0.0]
    clock = Clock(lambda: now[0])
    for stage, seconds in (("load", 3), ("deploy", 2), ("train", 4), ("evaluate", 1), ("train", 4), ("write", 0.5)):
        clock.stage(stage)
        now[0] += seconds
    assert clock.account() == "14.5 s: start 5.0, train 8.0, evaluate 1.0, write 0.5"
