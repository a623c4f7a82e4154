"""Sparse codecs: which values they choose among equal ones, their bytes, and gradients without positions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from raysplit.cluster.codecs.codec import Memory, Passage
from raysplit.cluster.codecs.lossless import Chain
from raysplit.cluster.codecs.sparse import Bitmap, RandTopK, Selected, TopK
from raysplit.cluster.links.coding import coded, coded_bytes, decoded

AT = Passage("owner-0", "server", "smashed", None, "")
EIGHT = torch.tensor([[1.0, -2, 2, -2, 0.5, 0, 1, 2]])
GEN = torch.Generator().manual_seed(0)


def test_of_equal_values_the_first_are_chosen() -> None:
    """Three of eight have a size of 2 or more; their positions are a byte of bits, smaller than 9 bits of indices."""
    codec = TopK(ratio=3 / 8)
    positions, values = codec.encode(EIGHT, AT)  # type: ignore[misc]
    assert positions.tolist() == [0b1110]
    assert values.tolist() == [-2, 2, -2]
    assert 16 + codec.size((1, 8), torch.float32) == 29
    assert codec.decode((positions, values), (1, 8), torch.float32, AT).tolist() == [[0, -2, 2, -2, 0, 0, 0, 0]]


def test_few_positions_are_indices() -> None:
    """Two of eight take six bits: 1 and then 2, in one byte."""
    positions, values = TopK(ratio=0.25).encode(EIGHT, AT)  # type: ignore[misc]
    assert positions.tolist() == [17]
    assert values.tolist() == [-2, 2]


@pytest.mark.parametrize("value", [0, -0.5, 1.5, "much"])
def test_a_share_is_above_0_and_at_most_1(value: Any) -> None:
    with pytest.raises(ValueError):
        TopK(ratio=value)


def test_a_random_choice_has_k_values_and_the_expected_share_from_outside() -> None:
    values = torch.randn(32, 1568, generator=GEN)
    codec, plain = RandTopK(ratio=0.1, alpha=0.1), TopK(ratio=0.1)
    shares = []
    for number in range(20):
        at = AT._replace(number=number)
        chosen = codec.decode(codec.encode(values, at), (32, 1568), torch.float32, at) != 0  # type: ignore[arg-type]
        assert chosen.sum(1).tolist() == [157] * 32
        largest = plain.decode(plain.encode(values, at), (32, 1568), torch.float32, at) != 0  # type: ignore[arg-type]
        shares.append(float((chosen & ~largest).sum() / chosen.sum()))
    sigma = math.sqrt(0.1 * 0.9 / (32 * 157 * 20))
    assert abs(np.mean(shares) - 0.1) < 3 * sigma
    none = RandTopK(ratio=0.1, alpha=0)
    assert none.encode(values, AT)[1].tolist() == plain.encode(values, AT)[1].tolist()  # type: ignore[index]
    assert codec.in_evaluation() == plain


def test_the_gradient_of_chosen_values_needs_no_positions() -> None:
    """The server takes the positions that it has received, and the owner those that it has sent."""
    owner, server, values, gradient = Memory(), Memory(), *torch.randn(2, 32, 32, 7, 7, generator=GEN)
    codec = TopK(ratio=0.1)
    sent = coded(codec, values, AT._replace(memory=owner))
    assert sent is not None
    z = decoded(codec, sent, AT._replace(memory=server))
    back = AT._replace(source="server", destination="owner-0", kind="gradients")
    assert coded_bytes(Selected(codec), (32, 32, 7, 7), torch.float32) == 24 + 4 * 32 * 157 == 20_120
    returned = coded(Selected(codec), gradient, back._replace(memory=server))
    assert returned is not None
    found = decoded(Selected(codec), returned, back._replace(memory=owner))
    assert torch.equal(found, torch.where(z != 0, gradient, 0))
    assert coded(Selected(codec), gradient, back._replace(memory=Memory())) is None  # its smashed data went unchanged


def test_a_bitmap_loses_nothing() -> None:
    values = torch.randn(40, 40, generator=GEN).relu()
    values[0, 0] = -0.0
    back = Bitmap().decode(Bitmap().encode(values, AT), (40, 40), torch.float32, AT)
    assert torch.equal(back.view(torch.int32), values.view(torch.int32))


def test_codecs_that_do_not_fit_one_another() -> None:
    with pytest.raises(ValueError, match="TopK already codes its values"):
        Chain([TopK(values="int8"), Bitmap()])
    with pytest.raises(ValueError, match="Input should be"):
        TopK(values="int7")  # type: ignore[arg-type]
