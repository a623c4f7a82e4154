"""The bytes that a dry run names are those that the first round sends, link by link."""

from __future__ import annotations

from typing import Any

import pytest

import raysplit
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.experiment.errors import CannotBeSimulated
from raysplit.prediction.traffic.round_bytes import bytes_of_round

BASE: dict[str, Any] = {
    "model": {"name": "cnn8"},
    "data": {"name": "digits", "train_samples": 60, "test_samples": 20},
    "partition": {"name": "dirichlet", "num_owners": 3, "alpha": 1.0},
    "training": {"rounds": 1, "batch_size": 16},
    "cluster": {"kind": "local"},
}
INT8 = {"smashed": "int8", "gradients": "int8", "labels": "narrow"}
SAID: dict[str, dict[str, Any]] = {
    "averaging": {"algorithm": {"name": "fedavg"}},
    "one owner at a time": {"algorithm": {"name": "splitfed_v2", "cut": 1}},
    "some owners, two batches a step": {
        "algorithm": {"name": "splitfed_v1", "cut": "conv1"},
        "training": {"rounds": 1, "cohort_size": 2, "accumulate": 2, "batch_size": 16},
    },
    "codecs and narrow labels": {"algorithm": {"name": "minibatch_sfl", "cut": 1}, "links": INT8},
    "three parts": {"algorithm": {"name": "mpsl", "cuts": [1, 3]}},
    "numbers to estimate": {
        "algorithm": {"name": "splitfed_v1", "cut": 1},
        "data": {"name": "diabetes", "train_samples": 60},
        "partition": {"name": "iid", "num_owners": 3},
        "model": {"name": "mlp"},
        "task": "regression",
    },
    "nothing is sent": {"algorithm": {"name": "centralised"}},
}


@pytest.mark.parametrize("more", SAID.values(), ids=SAID)
def test_they_are_those_of_the_run(more: dict[str, Any]) -> None:
    predicted = bytes_of_round(build(check_config(BASE | more)))
    links = raysplit.train(BASE | more).links
    assert {(x.source, x.destination): x.num_bytes for x in predicted} == {
        (x.source, x.destination): x.num_bytes for x in links
    }


def test_a_codec_whose_size_depends_on_values_counts_at_most() -> None:
    more = {"algorithm": {"name": "minibatch_sfl", "cut": 1}, "links": {"smashed": ["int4", "zstd"]}}
    predicted = sum(link.num_bytes for link in bytes_of_round(build(check_config(BASE | more))))
    sent = sum(link.num_bytes for link in raysplit.train(BASE | more).links)
    assert sent < predicted < 2 * sent


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"algorithm": {"name": "mtsl", "cut": 1}}, "mtsl depends on the values of tensors"),
        (
            {"algorithm": {"name": "fedavg"}, "model": {"name": "cnn8", "freeze": ["conv1.*"]}},
            "only a part of the weights is trained and sent",
        ),
    ],
)
def test_what_sizes_do_not_tell_is_refused_with_the_reason(more: dict[str, Any], why: str) -> None:
    with pytest.raises(CannotBeSimulated, match=why):
        bytes_of_round(build(check_config(BASE | more)))
