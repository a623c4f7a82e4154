"""Rounds at the start in which no codec changes values, and the seconds that codecs take afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from disturbed import Killed, Killer
from support import same, settings, train

from raysplit.api import resume, simulate, train_config
from raysplit.config.run import ConfigError, check_config

LINKS: dict[str, Any] = {"smashed": "int4", "gradients": "int8", "weights": "int8"}
UP: dict[str, Any] = {"rules": [{"from": "owner-*", "kind": "weights", "codec": "top_k"}], "weights": "float16"}
RUNS = {
    "splitfed_v1": ({"name": "splitfed_v1", "cut": 1}, LINKS),
    "mpsl": ({"name": "mpsl", "cuts": [1, 2]}, LINKS),
    "top_k": ({"name": "splitfed_v2", "cut": 1}, {"smashed": "top_k"}),
    "feedback": ({"name": "fedavg"}, UP),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_first_rounds_are_those_of_a_run_without_codecs(name: str) -> None:
    """Weights from the aggregator too, though the call that asks for them does not say its round."""
    algorithm, links = RUNS[name]
    plain = train(algorithm=algorithm, training__rounds=2)
    warm = train(algorithm=algorithm, training__rounds=2, links={**links, "warmup_rounds": 2})
    assert same(plain, warm)
    assert plain.links == warm.links
    assert [row["test_loss"] for row in plain.rows] == [row["test_loss"] for row in warm.rows]
    assert "raw_bytes" not in warm.rows[-1]


@pytest.mark.parametrize("name", RUNS)
def test_codecs_begin_after_them(name: str) -> None:
    algorithm, links = RUNS[name]
    coded = train(algorithm=algorithm, training__rounds=3, links=links)
    warm = train(algorithm=algorithm, training__rounds=3, links={**links, "warmup_rounds": 2})
    assert not same(coded, warm)
    assert ["raw_bytes" in row for row in warm.rows] == [False, False, True]
    assert warm.rows[2]["bytes"] == coded.rows[2]["bytes"]


def test_a_run_that_is_resumed_in_its_warmup(tmp_path: Path) -> None:
    config = check_config(settings(algorithm={"name": "fedavg"}, links={**UP, "warmup_rounds": 3}, training__rounds=5))
    whole = train_config(config, folder=tmp_path / "whole")
    with pytest.raises(Killed):
        train_config(config, folder=tmp_path / "cut", callbacks=[Killer(2)])
    again = resume(tmp_path / "cut")
    assert same(whole, again)
    assert whole.links == again.links


def test_evaluation_has_the_codecs_only_after_them() -> None:
    links = {"smashed": "top_k", "warmup_rounds": 1}
    rows = train(algorithm={"name": "splitfed_v1", "cut": 1}, links=links).rows
    assert ["test_loss_uncoded" in row for row in rows] == [False, True]


def test_a_simulation_has_them_too() -> None:
    config = "examples/mpsl_simulate.yaml"
    plain = simulate(config, rounds=2, partition={"num_owners": 2})
    warm = simulate(config, rounds=2, partition={"num_owners": 2}, links={"smashed": "int8", "warmup_rounds": 1})
    assert warm.round_s[0] == plain.round_s[0]
    assert warm.round_s[1] < plain.round_s[1]


def test_without_a_codec_there_is_nothing_to_wait_for() -> None:
    with pytest.raises(ConfigError, match="links: warmup_rounds is 2 and no codec comes after them"):
        check_config(settings(links={"warmup_rounds": 2}))


def test_the_seconds_of_codecs_are_in_the_metrics() -> None:
    algorithm = {"name": "splitfed_v2", "cut": 1}
    row = train(algorithm=algorithm, links={"smashed": "int4", "gradients": "int8"}).rows[-1]
    assert 0 < row["encode_s"] < row["seconds"]
    assert 0 < row["decode_s"] < row["seconds"]
    assert "encode_s" not in train(algorithm=algorithm).rows[-1]


@pytest.mark.parametrize(
    ("algorithm", "links", "message"),
    [
        ({"name": "fedavg"}, {"smashed": "int8"}, "links.smashed: no smashed crossed a link in this round"),
        ({"name": "local"}, {"weights": "int8"}, "links.weights: no weights crossed a link in this round"),
        (
            {"name": "splitfed_v2", "cut": 1},
            {"smashed": {"codec": "top_k", "ratio": 1, "gradient": "own"}, "warmup_rounds": 1},
            "has made no smashed smaller",
        ),
        (
            {"name": "fedavg"},
            {"rules": [{"from": "owner-*", "kind": "gradients", "codec": "int8"}]},
            "links.rules, from: owner-*: no gradients crossed",
        ),
    ],
)
def test_a_codec_without_effect_is_told_once(
    algorithm: dict[str, Any], links: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Codecs of smashed data were taken for methods that send weights only, and nothing said that they did nothing."""
    train(algorithm=algorithm, links=links, training__rounds=3)
    assert sum(message in record.getMessage() for record in caplog.records) == 1


def test_codecs_with_effect_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    links = {**LINKS, "rules": [{"from": "owner-1", "kind": "smashed", "codec": "int8"}]}
    train(algorithm={"name": "splitfed_v1", "cut": 1}, links=links)
    assert not [record for record in caplog.records if "links" in record.getMessage()]
