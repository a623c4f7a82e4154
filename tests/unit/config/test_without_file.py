"""Commands without a file train as the page of settings says, to a result worth showing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import raysplit
from raysplit.config.run import RunConfig, check_config, load_config
from raysplit.config.sources import described


def training(*overrides: str) -> tuple[int, str, float]:
    config = load_config(None, overrides).training
    return config.local_epochs, config.optimizer.name, config.optimizer.lr


def test_what_a_run_without_a_file_takes() -> None:
    """Plain `raysplit train` ended at 18.9 % and the FedAvg line of the README at 10.3 %."""
    assert training() == (5, "sgd", 0.1)
    assert training("training.rounds=20", "training.optimizer.momentum=0.9") == (5, "sgd", 0.1)
    assert described(None, {"training": {"rounds": 3}}).training.optimizer.lr == 0.1


def test_what_is_said_holds() -> None:
    assert training("training.optimizer.lr=0.01", "training.local_epochs=1") == (1, "sgd", 0.01)
    assert training("training.optimizer={name: adam}")[1:] == ("adam", 0.01), "0.1 is a rate for plain SGD alone"
    assert training("training.optimizer.name=adam")[1:] == ("adam", 0.01)


def test_files_and_plain_data_are_as_before(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert load_config(path) == check_config({}) == described({}, {}) == RunConfig()
    assert RunConfig().training.optimizer.lr == 0.01


@pytest.mark.parametrize(
    ("sections", "at_least"),
    [
        ({"algorithm": "minibatch_sfl"}, 0.95),
        ({"algorithm": "fedavg", "partition": {"name": "dirichlet", "alpha": 0.3}}, 0.93),
        *[({"algorithm": name}, 0.95) for name in ("fedprox", "splitnn", "splitfed_v1", "splitfed_v2", "mpsl")],
        *[({"algorithm": name}, 0.9) for name in ("mtsl", "fedem", "centralised")],
    ],
    ids=lambda value: value["algorithm"] if isinstance(value, dict) else "",
)
@pytest.mark.slow
def test_every_method_learns_without_a_word(sections: dict[str, Any], at_least: float) -> None:
    given = {**sections, "algorithm": {"name": sections["algorithm"]}}
    assert raysplit.train(cluster="local", evaluation={"every": 10}, **given).accuracy > at_least  # type: ignore[arg-type]


def test_the_first_command_learns() -> None:
    """Three of the ten rounds are enough to see it, and take a second."""
    assert raysplit.train(cluster="local", training={"rounds": 3}, evaluation={"every": 3}).accuracy > 0.5
