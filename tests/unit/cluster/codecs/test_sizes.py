"""The bytes of every codec for a batch and for an incomplete one, and how codecs are written."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest
import torch

from raysplit.cluster import codecs
from raysplit.cluster.codecs import codec_for, codec_named
from raysplit.cluster.codecs.codec import Codec, Memory, Passage
from raysplit.cluster.codecs.memory import Remembered
from raysplit.cluster.codecs.weights import Feedback
from raysplit.cluster.links.coding import coded, coded_bytes, decoded

BATCH, REST = (32, 32, 7, 7), (17, 32, 7, 7)
SIZES: list[tuple[Any, int, int]] = [
    ("float16", 100_378, 53_338),
    ("bfloat16", 100_378, 53_338),
    ("float8", 50_202, 26_682),
    ({"codec": "int8", "by": "tensor"}, 50_205, 26_685),
    ("int8", 50_360, 26_765),
    ({"codec": "int8", "by": "channel"}, 50_360, 26_840),
    ({"codec": "int8", "by": "tile"}, 54_120, 28_765),
    ("int4", 25_272, 13_437),
    ({"codec": "int4", "by": "tile"}, 29_032, 15_437),
    ({"codec": "int2", "by": "tile"}, 16_488, 8_773),
    ("top_k", 26_392, 14_032),
    ({"codec": "top_k", "values": "float16"}, 16_344, 8_694),
    ("c3", 25_112, 18_840),
    ("project", 25_112, 13_352),
    ("product_quantization", 3_672, 2_202),
]


@pytest.mark.parametrize(("text", "whole", "rest"), SIZES, ids=[str(text) for text, _, _ in SIZES])
def test_sizes(text: Any, whole: int, rest: int) -> None:
    codec = codec_named(text)
    assert codec is not None
    for shape, expected in ((BATCH, whole), (REST, rest)):
        values = torch.randn(shape, generator=torch.Generator().manual_seed(0)).relu()
        at = Passage("owner-0", "server", "smashed", None, "", memory=Memory())
        sent = coded(codec, values, at)
        assert sent is not None
        assert coded_bytes(codec, shape, torch.float32) == sent.num_bytes == expected
        back = decoded(codec, sent, at)
        assert back.shape == values.shape
        assert back.is_contiguous()


def test_every_codec_has_a_number_of_its_own() -> None:
    """A header says which codec wrote a message; two of one number would decode each other's."""
    modules = pkgutil.iter_modules(codecs.__path__, f"{codecs.__name__}.")
    found = [value for module in modules for value in vars(importlib.import_module(module.name)).values()]
    kinds = {kind for kind in found if isinstance(kind, type) and issubclass(kind, Codec) and "number" in vars(kind)}
    numbers = [kind.number for kind in kinds - {Codec, Remembered}]  # the latter is delta with what follows it
    assert len(numbers) == len(set(numbers)) > 20


@pytest.mark.parametrize("text", [["int4", "zstd"], ["bitmap", "int8", "zstd"], ["top_k", "float16", "zstd"], "zstd"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_lossless_end_keeps_the_values(text: Any, dtype: torch.dtype) -> None:
    values = torch.randn(BATCH, generator=torch.Generator().manual_seed(0), dtype=dtype).relu()
    at = Passage("owner-0", "server", "smashed", None, "", memory=Memory())
    whole, plain = codec_named(text), codec_named([*text[:-1]] if isinstance(text, list) else "identity")
    assert whole is not None
    sent = coded(whole, values, at)
    assert sent is not None
    back = decoded(whole, sent, at)
    if plain is None:
        assert torch.equal(back, values)
        return
    uncompressed = coded(plain, values, at)
    assert uncompressed is not None
    assert sent.num_bytes < uncompressed.num_bytes
    assert torch.equal(back, decoded(plain, uncompressed, at))


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("smashed", "int9", "unknown codec 'int9'; did you mean 'int8'"),
        ("smashed", {"codec": "top_k", "ratoi": 0.1}, "unknown option of top_k 'ratoi'; did you mean 'ratio'"),
        ("smashed", {"codec": "top_k", "ratio": 0}, "top_k.ratio: Input should be greater than 0, got 0"),
        ("smashed", {"codec": "top_k", "ratio": 1.5}, "top_k.ratio: Input should be less than or equal to 1, got 1.5"),
        ("smashed", {"codec": "float16", "by": "row"}, "codec float16 has no options, got 'by'"),
        ("smashed", ["zstd", "int8"], "a chain begins with a codec for values"),
        ("smashed", ["int4", "int8"], "Int4 makes codes, which Int8 cannot encode"),
        ("smashed", ["delta"], "delta needs a codec for the changes"),
        ("smashed", {"by": "row"}, "a codec with options needs its name"),
        ("smashed", [], "a codec is a name"),
        ("smashed", "power_sgd", "PowerSGD is a codec for weights, not for smashed"),
        ("smashed", {"codec": "int8", "feedback": True}, "feedback is for weights"),
        ("gradients", {"codec": "top_k", "gradient": "through"}, "gradient: through is for a codec of smashed data"),
        ("weights", {"codec": "zstd", "feedback": True}, "leaves nothing out that feedback could add"),
        ("weights", {"codec": "int8", "rounding": "stochastic"}, "stochastic rounding is for gradients"),
        ("weights", {"codec": "int8", "feedback": 1}, "feedback is true or false, got 1"),
    ],
)
def test_mistakes(kind: Any, text: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codec_for(kind, text)


def test_feedback_is_on_where_weights_need_it() -> None:
    on = ["int4", "int2", "top_k", "stc", "power_sgd", ["int4", "zstd"], {"codec": "int8", "feedback": True}]
    off = ["int8", "float16", "zstd", {"codec": "int4", "feedback": False}]
    assert all(isinstance(codec_for("weights", text), Feedback) for text in on)
    assert not any(isinstance(codec_for("weights", text), Feedback) for text in off)
