"""A codec at the cut of an evaluated model: its predictions depend on the batch only where the codec says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from raysplit.cluster.codecs import codec_for
from raysplit.cluster.links.at_cut import CodecAtCut

ROWS: list[Any] = [
    "int8",
    "int4",
    ["int4", "zstd"],
    "top_k",
    {"codec": "top_k", "values": "float16"},
    "rand_top_k",
    "bitmap",
]
TOGETHER: list[Any] = [
    {"codec": "int8", "by": "tensor"}, {"codec": "int4", "by": "channel"}, "c3", "product_quantization",
]  # fmt: skip


def in_batches(text: Any, z: torch.Tensor, size: int) -> torch.Tensor:
    codec = codec_for("smashed", text)
    assert codec is not None
    at_cut = CodecAtCut(codec=codec)
    return torch.cat([at_cut(each, 0) for each in z.split(size)])


@pytest.mark.parametrize("text", [*ROWS, *TOGETHER], ids=str)
def test_rows_that_do_not_depend_on_one_another(text: Any) -> None:
    """In batches of 1, 12 and all 500 rows; codecs whose rows share a range say so, and are evaluated as trained."""
    z = torch.randn(500, 4, 40, generator=torch.Generator().manual_seed(0)).relu()
    z *= torch.rand(500, 1, 1, generator=torch.Generator().manual_seed(1))
    whole = in_batches(text, z, 500)
    assert not torch.equal(whole, z) or text == "bitmap"
    assert [torch.equal(in_batches(text, z, size), whole) for size in (1, 12)] == [text in ROWS] * 2
    codec = codec_for("smashed", text)
    assert codec is not None
    assert CodecAtCut(codec=codec).mixes_rows is (text in TOGETHER)
