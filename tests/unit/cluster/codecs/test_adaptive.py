"""Bits by channel: the allocation, the codes, the very sizes, and the gradient of channels that were dropped."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from raysplit.cluster.codecs import codec_named
from raysplit.cluster.codecs.adaptive import Adaptive, Kept, allocated, by_channel
from raysplit.cluster.codecs.codec import Memory, Passage
from raysplit.cluster.links.coding import coded, coded_bytes, decoded, raw_bytes

MEANS: list[Any] = [8, 4, 2]
FOUR: dict[str, Any] = {"codec": "int4", "bits": "adaptive"}


def at(kind: Any = "smashed", memory: Memory | None = None) -> Passage:
    return Passage("owner-0", "server", kind, None, "", memory=memory or Memory())


def batch(shape: tuple[int, ...], seed: int = 0, spread: float = 2.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Channels whose ranges differ by some powers of two, the first all 0 and some others without negative values."""
    draws = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=draws, dtype=torch.float64)
    sides = (1, shape[1], *[1] * (len(shape) - 2))
    values *= torch.exp2(spread * torch.randn(sides, generator=draws, dtype=torch.float64))
    values[:, 1::3] = values[:, 1::3].relu()
    values[:, 0] = 0
    return values.to(dtype)


def ranges_of(values: Tensor) -> np.ndarray:
    channels = by_channel(values.numpy()).astype(np.float64)
    return channels.max(1).clip(0) - channels.min(1).clip(None, 0)


def test_bits_of_four_channels() -> None:
    """Ranges 1, 4, 16 and 64 have the mean 8, and are 3, 1, 1 and 3 doublings away; zeros are not counted."""
    values = torch.zeros(2, 5, 20)
    values[0, [0, 1, 3, 4], 0] = torch.tensor([1.0, -4.0, 16.0, 64.0])
    assert allocated(by_channel(values.numpy()), 4).tolist() == [1, 3, 0, 5, 7]
    assert allocated(by_channel(values.numpy()), 2).tolist() == [0, 1, 0, 3, 5]  # -1 of the first, which is dropped
    assert allocated(by_channel(values.numpy()), 8).tolist() == [5, 7, 0, 8, 8]
    bits, step, zero, codes = Adaptive(mean=2).encode(values, at())
    assert bits.tolist() == [0, 1, 0, 3, 5]
    assert zero.tolist() == [1, 0, 0]  # of the channel of one bit, -4 is code 0 and 0 is code 1
    assert step.tolist() == [np.nextafter(np.float32(n), np.float32(99)) for n in (4, 16 / 7, 64 / 31)]
    assert codes.nbytes == 5 + 15 + 25
    assert codes[:6].tolist() == [0b11111110, 255, 255, 255, 255, 7]
    back = Adaptive(mean=2).decode((bits, step, zero, codes), (2, 5, 20), torch.float32, at())
    assert back[0, :, 0].tolist() == pytest.approx([0, -4, 0, 16, 64], rel=1e-6)
    assert int((back != 0).sum()) == 3


@settings(max_examples=60, deadline=None)
@given(
    mean=st.sampled_from(MEANS),
    shape=st.sampled_from([(3, 40), (32, 8, 7, 7), (1, 5, 64), (4, 1, 30), (2, 300)]),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]),
    spread=st.sampled_from([0.0, 0.5, 2.0, 9.0]),
    seed=st.integers(0, 10_000),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_values_stay_close_and_sizes_are_exact(
    mean: Any, shape: tuple[int, ...], scale: float, spread: float, seed: int, dtype: torch.dtype
) -> None:
    """Bits follow the formula in floating point wherever that is not at a half; decoded values never grow."""
    values = batch(shape, seed, min(spread, 2.0) if scale > 1 else spread, torch.float64).mul(scale).to(dtype)
    codec, here = Adaptive(mean=mean), at()
    arrays = codec.encode(values, here)
    bits, step, zero, codes = arrays
    found = ranges_of(values)
    wide = found > 0
    logs = np.log2(found[wide])
    exact = mean + logs - (logs.mean() if wide.any() else 0)
    clear = np.abs(exact % 1 - 0.5) > 1e-3
    assert bits[~wide].tolist() == [0] * int((~wide).sum())
    assert bits[wide][clear].tolist() == np.floor(exact + 0.5).clip(0, 8)[clear].astype(int).tolist()

    size = math.prod(shape) // shape[1]
    widths = [math.ceil(int((bits == width).sum()) * size * width / 8) for width in range(1, 9)]
    assert sum(array.nbytes for array in arrays) == shape[1] + 5 * int((bits > 0).sum()) + sum(widths)
    assert sum(array.nbytes for array in arrays) <= codec.size(shape, dtype)
    assert codec.last_bytes(arrays[:-1], shape, dtype) == codes.nbytes
    assert len(step) == len(zero) == int((bits > 0).sum())

    back = codec.decode(arrays, shape, dtype, here)
    assert back.dtype == dtype
    assert back.is_contiguous()
    steps = np.full(shape[1], np.inf)
    steps[bits > 0] = step
    for i, (x, y) in enumerate(zip(values.unbind(1), back.unbind(1), strict=True)):
        error, slack = (y.double() - x.double()).abs(), x.abs().double() * 2**-22
        assert bool((error <= x.abs().double() + slack).all())
        assert bool((error <= steps[i] / 2 + slack).all())
        assert bits[i] or not y.any()


@pytest.mark.parametrize("exponent", [-60, -1, 1, 90])
def test_a_power_of_two_changes_no_bits_and_no_codes(exponent: int) -> None:
    """The logarithm of 2**k x is k more in the last bit, so the allocation does not depend on the unit."""
    values = batch((16, 12, 5, 5))
    plain, scaled = (Adaptive(mean=4).encode(each, at()) for each in (values, values * 2.0**exponent))
    for i in (0, 2, 3):
        assert np.array_equal(plain[i], scaled[i])


def test_channels_of_one_range_all_have_the_mean() -> None:
    """Then it is the codec without adaptive bits, in other order and with a byte more for each channel."""
    values = torch.randn(16, 6, 30, generator=torch.Generator().manual_seed(4))
    values[0, :, :2] = torch.tensor([-4.0, 4.0])
    fixed = codec_named({"codec": "int4", "by": "channel"})
    assert fixed is not None
    codec = Adaptive(mean=4)
    assert allocated(by_channel(values.numpy()), 4).tolist() == [4] * 6
    one = decoded(fixed, sent(fixed, values), at())
    assert torch.equal(decoded(codec, sent(codec, values), at()), one)
    assert sent(codec, values).num_bytes == sent(fixed, values).num_bytes + 6


def test_it_loses_less_than_the_same_bits_for_all() -> None:
    """Channels of widths from 2**-4 to 2**4: the wide ones, where the error is, have more bits."""
    values = batch((32, 32, 7, 7), spread=2.0)
    errors = []
    for codec in (Adaptive(mean=4), codec_named({"codec": "int4", "by": "channel"})):
        assert codec is not None
        message = sent(codec, values)
        errors.append((float((decoded(codec, message, at()) - values).square().sum()), message.num_bytes))
    assert errors[0][0] < errors[1][0] / 5
    assert errors[0][1] < errors[1][1] * 1.05


def sent(codec: Any, values: Tensor, here: Passage | None = None) -> Any:
    found = coded(codec, values, here or at())
    assert found is not None
    return found


@pytest.mark.parametrize("text", [FOUR, [FOUR, "zstd"]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_on_a_link(text: Any, dtype: torch.dtype) -> None:
    codec = codec_named(text)
    assert codec is not None
    values = batch((32, 16, 6, 6)).to(memory_format=torch.channels_last).to(dtype)
    message = sent(codec, values)
    most = coded_bytes(codec, (32, 16, 6, 6), dtype)
    assert most is not None
    assert message.num_bytes <= most
    assert message.num_bytes < raw_bytes((32, 16, 6, 6), dtype) / (1.9 * dtype.itemsize)
    back = decoded(codec, message, at())
    assert back.dtype == dtype
    assert back.is_contiguous(memory_format=torch.channels_last)
    plain = codec_named(FOUR)
    assert torch.equal(back, decoded(plain, sent(plain, values), at()))  # type: ignore[arg-type]


def test_smashed_data_that_are_all_zero_cost_a_byte_for_each_channel() -> None:
    values = torch.zeros(32, 16, 6)
    for text in ({"codec": "int2", "bits": "adaptive"}, [{"codec": "int2", "bits": "adaptive"}, "zstd"]):
        codec = codec_named(text)
        message = sent(codec, values)
        assert message.num_bytes == 8 + 3 * 4 + 16
        assert not decoded(codec, message, at()).any()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("fewer bits", "12 numbers of bits for 13 channels"),
        ("many bits", "more than 8 bits"),
        ("other bits", "bytes of codes for"),
        ("fewer steps", "steps, 12 zeros"),
        ("fewer codes", "bytes of codes for"),
        ("negative step", "a step that is not a positive number"),
        ("no number", "a step that is not a positive number"),
        ("zero", "a zero beyond the levels of its channel"),
        ("header", "truncated or changed"),
    ],
)
def test_damaged_messages_are_refused(damage: str, reason: str) -> None:
    codec = Adaptive(mean=2)
    message = sent(codec, batch((8, 13, 9), spread=0.3))
    bits, step, zero, codes = (array.copy() for array in message.arrays)
    if damage == "fewer bits":
        bits = bits[1:]
    elif damage == "many bits":
        bits[3] = 9
    elif damage == "other bits":
        bits[3] += 1
    elif damage == "fewer steps":
        step = step[1:]
    elif damage == "fewer codes":
        codes = codes[:-1]
    elif damage == "negative step":
        step[2] = -1
    elif damage == "no number":
        step[2] = np.nan
    elif damage == "zero":
        zero[5] = 255
    message.arrays = (bits, step, zero, codes)
    header = bytearray(message.header)
    total = sum(array.nbytes for array in message.arrays) + (damage == "header")
    header[4:8] = total.to_bytes(4, "little")
    message.header = bytes(header)
    with pytest.raises(ValueError, match=reason):
        decoded(codec, message, at())


def test_the_gradient_of_dropped_channels_is_not_sent() -> None:
    """The receiver works with zeros whatever they were, so it answers the derivative, which is 0 there."""
    values, g = batch((8, 13, 9), spread=4.0), torch.randn(8, 13, 9, generator=torch.Generator().manual_seed(2))
    server, codec = Memory(), Adaptive(mean=2)
    message = sent(codec, values)
    decoded(codec, message, at(memory=server))
    dropped = message.arrays[0] == 0
    assert 2 <= dropped.sum() <= 10
    back = sent(Kept(), g, at("gradients", server))
    assert back.num_bytes == 8 + 3 * 4 + 2 + 4 * 8 * 9 * int((~dropped).sum())
    arrived = decoded(Kept(), back, at("gradients"))
    assert torch.equal(arrived[:, ~dropped], g[:, ~dropped])
    assert not arrived[:, dropped].any()
    assert coded(Kept(), g, at("gradients")) is None  # nothing was dropped, as far as this party knows
    assert coded(Kept(), g[:, :12], at("gradients", server)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({**FOUR, "bits": 3}, "int4 has 4 bits, got bits: 3; take int8, int4 or int2, or bits: adaptive with a mean"),
        ({"codec": "int8", "bits": "adaptiv"}, "int8 has 8 bits, got bits: 'adaptiv'"),
        ({**FOUR, "by": "row"}, "gives each channel its own bits.*got by: 'row'; leave by out"),
        ({**FOUR, "rounding": "stochastic"}, "rounds to nearest, got rounding: 'stochastic'"),
        ({"codec": "float16", "bits": "adaptive"}, "codec float16 has no options, got 'bits'"),
    ],
)
def test_mistakes(text: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codec_named(text)
    assert codec_named({**FOUR, "by": "channel"}) == Adaptive(mean=4)
