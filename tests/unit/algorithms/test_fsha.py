"""The rehearsal of a malicious server: gradients of a critic, losses that are made up, and samples reconstructed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import same, train

from raysplit.config.run import load_config

EXAMPLES = Path(__file__).parents[3] / "examples"
SHORT: dict[str, Any] = {
    "model": {"name": "cnn8"},
    "data": {"name": "digits", "train_samples": 200, "test_samples": 100},
    "partition": {"name": "iid", "num_owners": 2},
    "algorithm": {"name": "fsha:Hijacking", "cut": 1},
    "training": {"rounds": 2, "batch_size": 32, "optimizer": {"name": "adam", "lr": 0.001}},
    "evaluation": {"every": 2},
}


@pytest.fixture(autouse=True)
def _in_the_folder_of_the_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def test_a_hijacking_server_learns_to_reconstruct_while_the_losses_it_tells_fall() -> None:
    result = train(**SHORT)
    first, last = result.rows
    assert last["hijack_nmse"] < first["hijack_nmse"]
    assert 0 < last["hijack_ssim_chance"] < 1
    assert last["train_loss"] < first["train_loss"]  # made up
    assert last["server_steps"] == 0
    assert result.accuracy < 0.4
    assert same(result, train(**SHORT))


def test_the_example_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_config(EXAMPLES / "fsha_digits.yaml").algorithm.resolved_options().scale == 1.0
