"""The controls beside a multi-task accuracy, and steps and bytes to a target."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import settings, train

from raysplit.api import train_config
from raysplit.cli.figures import accuracy_text
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.runs.metric import to_targets
from raysplit.training.controls import majority_accuracies

TASKS = {"name": "main_label", "num_owners": 3, "samples_per_owner": 40, "test_samples_per_owner": 20}


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, 1.0), (0.25, 0.8), (1.0, 0.2)])
def test_majority_control_is_the_class_law(alpha: float, expected: float) -> None:
    """(1 - alpha) + alpha / C with five classes and counts that divide."""
    setting = build(check_config(settings(partition={**TASKS, "alpha": alpha}))).setting
    shares = majority_accuracies(setting.owners)
    assert shares == pytest.approx(dict.fromkeys(setting.owners, expected), abs=1e-12)


def test_a_common_test_set_needs_no_control() -> None:
    assert majority_accuracies(build(check_config(settings())).setting.owners) == {}
    assert "majority_accuracy" not in train().rows[-1]


def test_targets_are_reached_at_the_first_evaluation_that_does() -> None:
    rows = [
        {"steps_total": 5, "bytes_total": 100, "test_accuracy": 0.4},
        {"steps_total": 10, "bytes_total": 200},
        {"steps_total": 15, "bytes_total": 300, "test_accuracy": 0.8},
        {"steps_total": 20, "bytes_total": 400, "test_accuracy": 0.7},
    ]
    assert to_targets(rows, (0.4, 0.7, 0.9)) == {
        "steps_to_target": {"0.4": 5, "0.7": 15, "0.9": None},
        "bytes_to_target": {"0.4": 100, "0.7": 300, "0.9": None},
    }


def test_the_summary_tells_targets_and_control(tmp_path: Path) -> None:
    changes = {
        "algorithm": {"name": "mtsl"},
        "partition": {**TASKS, "alpha": 0.25},
        "evaluation": {"targets": [0.1, 0.99]},
    }
    train_config(check_config(settings(**changes)), folder=tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    row = 40 * (8 * 16 + 8 * 16 + 4)  # one owner's epoch: 40 samples, 16 wide, eight bytes each, labels of four
    assert summary["steps_to_target"] == {"0.1": 3, "0.99": None}
    assert summary["bytes_to_target"] == {"0.1": 3 * row, "0.99": None}
    assert summary["last"]["majority_accuracy"] == pytest.approx(0.8)
    assert accuracy_text(summary["last"], 2).endswith("(majority label 0.80)")
