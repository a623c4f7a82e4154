"""Training a split model with a codec is training the whole one with the codec as a module at the cut, bit for bit."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from support import same, train

from raysplit.cluster.codecs import CODECS
from raysplit.runs.result import Result

STOCHASTIC = {"codec": "int4", "rounding": "stochastic"}
ADAPTIVE = {"codec": "int2", "bits": "adaptive"}
CORRECTED = {"codec": "product_quantization", "sub": 4, "words": 8, "correction": 0.3}
RULES: dict[str, dict[str, Any]] = {
    "float16": {"smashed": "float16", "gradients": "float16"},
    "bfloat16": {"smashed": "bfloat16", "gradients": "bfloat16"},
    "float8": {"smashed": "float8", "gradients": "float8"},
    "int8": {"smashed": {"codec": "int8", "by": "tensor"}, "gradients": "int8"},
    "int4": {"smashed": {"codec": "int4", "by": "channel"}, "gradients": STOCHASTIC},
    "int2": {"smashed": {"codec": "int2", "by": "tile"}, "gradients": {"codec": "int4", "by": "tile"}},
    "adaptive": {"smashed": ADAPTIVE},
    "adaptive both ways": {"smashed": [ADAPTIVE, "zstd"], "gradients": {"codec": "int4", "bits": "adaptive"}},
    "top_k through": {"smashed": "top_k"},
    "top_k": {"smashed": {"codec": "top_k", "gradient": "own"}, "gradients": "top_k"},
    "top_k in a chain": {"smashed": ["top_k", "int8", "zstd"]},
    "rand_top_k": {"smashed": {"codec": "rand_top_k", "alpha": 0.3}},
    "bitmap": {"smashed": ["bitmap", "int8"], "gradients": "zstd"},
    "c3": {"smashed": {"codec": "c3", "rows": 4}, "gradients": {"codec": "c3", "rows": 4}},
    "project": {"smashed": "project", "gradients": "project"},
    "product_quantization": {"smashed": {**CORRECTED, "correction": 0.0}, "gradients": "int8"},
    "its correction": {"smashed": CORRECTED, "gradients": "int8"},
    "its correction alone": {"smashed": [CORRECTED, "zstd"]},
    "delta": {"smashed": ["delta", "int4"], "gradients": "int8"},
    "skip": {"smashed": {"codec": "skip", "similarity": 0.9}},
}
ONLY_OF_WEIGHTS = {"power_sgd", "stc"}
ROUNDS, STEPS = 2, 4
BASE: dict[str, Any] = {
    "data": {"name": "random", "num_classes": 5, "num_samples": 64, "dim": 36, "seed": 1},
    "partition__num_owners": 1,
    "training__rounds": ROUNDS,
    "evaluation": {"every": ROUNDS, "links": "none"},
}


@cache
def split(cut: str, links: str) -> Result:
    model = {"name": "coded_inside:BlockNet", "dtype": "float64", "front_end": "fx"}
    return train(**BASE, model=model, algorithm={"name": "splitfed_v1", "cut": cut}, links=json.loads(links))


def whole(cut: str, links: str) -> Result:
    given = {"cut": cut, "links": links, "num_steps": STEPS}
    model = {"name": "coded_inside:CodedBlockNet", "dtype": "float64", "front_end": "fx", **given}
    return train(**BASE, model=model, algorithm={"name": "centralised"})


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        pytest.param(name, cut, marks=[] if cut == "inner" else pytest.mark.slow)
        for name in RULES
        for cut in ("front", "inner", "outer", "end")
    ],
)
def test_split_with_a_codec_is_the_whole_model_with_the_codec_inside(name: str, cut: str) -> None:
    """In front of a residual block, at two places in it, where two tensors cross, and behind it."""
    links = json.dumps(RULES[name])
    assert same(split(cut, links), whole(cut, links))
    assert not same(split(cut, links), split(cut, "{}"))


def test_every_codec_is_among_them() -> None:
    text = json.dumps(list(RULES.values()))
    assert {name for name in CODECS if f'"{name}"' not in text} == ONLY_OF_WEIGHTS


def test_two_tensors_cross_inside_of_the_block_and_few_gradients_of_small_channels() -> None:
    """Both of 50 rows in a round, of 6 channels of 36 float64; in one of them a channel is an eighth of the last."""
    whole_bytes = ROUNDS * 50 * 2 * 6 * 36 * 8
    links = split("inner", json.dumps(RULES["adaptive"])).links
    found = {(each.source, each.destination): each.kinds for each in links}
    (smashed, raw_smashed), (gradients, raw_gradients) = (
        next((kind.num_bytes, kind.raw_bytes) for kind in found[ends] if kind.kind == name)
        for ends, name in ((("owner-0", "server"), "smashed"), (("server", "owner-0"), "gradients"))
    )
    assert raw_smashed == raw_gradients == whole_bytes
    assert smashed < whole_bytes / 16
    assert whole_bytes / 2 < gradients < 0.9 * whole_bytes
