"""Affine quantization: the very codes of a small tensor, its bounds, and int8 as serving has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from raysplit.cluster.codecs.affine import Affine, Int2, Int4, Int8
from raysplit.cluster.codecs.codec import Passage
from raysplit.cluster.codecs.packing import packed, unpacked
from raysplit.serving.compression import Encoding, pack, unpack

AT = Passage("owner-0", "server", "gradients", None, "")
FOUR = torch.tensor([[-1.0, 0.0, 0.3, 2.0]])
KINDS: list[type[Affine]] = [Int8, Int4, Int2]


def there_and_back(codec: Affine, values: Tensor, at: Passage = AT) -> Tensor:
    return codec.decode(codec.encode(values, at), tuple(values.shape), values.dtype, at)


def test_codes_of_four_values() -> None:
    """The range -1 to 2 has 255, 15 or 3 steps; 0 is a level, and codes of few bits begin in the low ones."""
    step, zero, codes = Int8(by="tensor").encode(FOUR, AT)
    assert float(step[0]) == float.fromhex("0x1.818184p-7")
    assert (zero.tolist(), codes.tolist()) == ([85], [0, 85, 110, 255])
    step, zero, codes = Int4(by="tensor").encode(FOUR, AT)
    assert float(step[0]) == float.fromhex("0x1.99999cp-3")
    assert (zero.tolist(), codes.tobytes()) == ([5], b"\x50\xf6")
    _, zero, codes = Int2(by="tensor").encode(FOUR, AT)
    assert (zero.tolist(), codes.tobytes()) == ([1], b"\xd4")
    assert [16 + kind(by="tensor").size((1, 4), torch.float32) for kind in KINDS] == [25, 23, 22]


def test_numbers_of_any_bits_begin_in_the_low_ones() -> None:
    """5, 3 and 7 in three bits each are 101, 110 and 111 from the lowest bit on."""
    assert packed(np.array([5, 3, 7], np.uint32), 3).tolist() == [221, 1]
    for bits in range(1, 17):
        numbers = np.random.default_rng(bits).integers(0, 2**bits, 101).astype(np.uint32)
        assert unpacked(packed(numbers, bits), 101, bits).tolist() == numbers.tolist()


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    shape=st.sampled_from([(3, 40), (1, 20_000), (400, 50)]),
    exponent=st.integers(-45, 38),
    odd=st.sampled_from([1, 3, 5, 255, 2**22 + 1, 2**23 - 1]),
    seed=st.integers(0, 10_000),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_codes_are_those_of_a_division(
    kind: type[Affine], shape: tuple[int, ...], exponent: int, odd: int, seed: int, dtype: torch.dtype
) -> None:
    """The encoder multiplies by the inverse of the step, in blocks; halves are where it could err."""
    draws = np.random.default_rng(seed)
    values = draws.standard_normal(shape) * 10.0**exponent
    with np.errstate(over="ignore", under="ignore"):
        halves = (draws.integers(-8, 8, shape) + 0.5) * odd * 2.0**-30 * 10.0**exponent
        values = np.where(draws.random(shape) < 0.5, halves, values)
        values = np.clip(values, -1e38, 1e38).astype("f4" if dtype is torch.float32 else "f8")
    step, zero, codes = kind().encode(torch.from_numpy(values), AT)
    step = step.astype(np.float64)[:, None]
    halves = ((draws.integers(-8, 8, shape) + 0.5) * step).astype(values.dtype)  # of the very step
    within = (halves >= values.min(1, keepdims=True)) & (halves <= values.max(1, keepdims=True))
    values = np.where(within & (draws.random(shape) < 0.5) & (values != values.max(1, keepdims=True)), halves, values)
    step, zero, codes = kind().encode(torch.from_numpy(values), AT)
    expected = np.rint(values.astype(np.float64) / step.astype(np.float64)[:, None]) + zero[:, None]
    assert unpacked(codes, values.size, kind.bits).tolist() == expected.reshape(-1).astype(int).tolist()


def test_int8_of_a_tensor_is_that_of_serving() -> None:
    draws = torch.Generator().manual_seed(3)
    for i in range(1000):
        values = torch.randn(1 + i % 7, 9, generator=draws) * 10.0 ** (i % 61 - 30)
        values = [values, values.relu(), -values.abs(), torch.full((3, 9), float(values[0, 0])), torch.zeros(2, 9)][
            i % 5
        ]
        served = unpack(pack(values, Encoding.INT8), Encoding.INT8, tuple(values.shape))
        assert torch.equal(there_and_back(Int8(by="tensor"), values), served), i


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    by=st.sampled_from(["tensor", "row", "channel", "tile"]),
    shape=st.sampled_from([(3, 5), (2, 3, 4), (7,), (2, 3, 5, 9), (1, 130)]),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]),
    seed=st.integers(0, 10_000),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_nearest_rounding_stays_close_and_never_grows(
    kind: Any, by: Any, shape: tuple[int, ...], scale: float, seed: int, dtype: torch.dtype
) -> None:
    draws = torch.Generator().manual_seed(seed)
    values = (torch.randn(shape, generator=draws, dtype=torch.float64) * scale).to(dtype)
    values[values.abs() < scale / 5] = 0
    codec = kind(by=by)
    back = there_and_back(codec, values)
    assert bool((back[values == 0] == 0).all())
    steps = torch.from_numpy(np.array(codec.encode(values, AT)[0])).double()
    error, slack = (back.double() - values.double()).abs(), values.abs().double() * 2**-22
    assert bool((error <= steps.max() / 2 + slack).all())
    assert bool((error <= values.abs().double() + slack).all())


def test_stochastic_rounding_has_the_right_mean() -> None:
    """200,000 times 0.3 beside a 1, whose range makes the step 1/255; rounded to nearest, it would be 0.29804."""
    values = torch.full((1, 200_001), 0.3)
    values[0, 0] = 1
    found = there_and_back(Int8(by="tensor", rounding="stochastic"), values)[0, 1:].double()
    assert abs(float(found.mean()) - 0.3) < 2.2e-5
    assert abs(float(found.std()) - 0.00196) < 2e-5
    assert abs(float(there_and_back(Int8(by="tensor"), values)[0, 1]) - 0.29804) < 1e-5


def test_draws_are_keyed_by_step_and_maker() -> None:
    codec, values = Int4(rounding="stochastic"), torch.randn(4, 100, generator=torch.Generator().manual_seed(0))

    class Step:
        owner, round, step = "owner-0", 3, 1

    first = AT._replace(step=Step())
    again = there_and_back(codec, values, first)
    assert torch.equal(again, there_and_back(codec, values, first._replace(destination="elsewhere")))
    others = [AT, first._replace(seed=1), first._replace(source="owner-1"), first._replace(number=1)]
    assert not any(torch.equal(again, there_and_back(codec, values, other)) for other in others)


def test_stochastic_rounding_is_for_gradients() -> None:
    with pytest.raises(ValueError, match="stochastic rounding is for gradients, not for smashed"):
        Int8(rounding="stochastic").for_kind("smashed")
