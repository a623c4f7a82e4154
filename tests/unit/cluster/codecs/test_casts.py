"""float16 on a link: the very bytes, what it keeps of a value, and what it leaves alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from raysplit.cluster.codecs import CODECS, codec_named
from raysplit.cluster.codecs.casts import Float16
from raysplit.cluster.codecs.codec import Passage
from raysplit.cluster.links.coded import Coded, Header, header_bytes, unpacked
from raysplit.cluster.links.coding import coded, coded_bytes, decoded

AT = Passage("owner-0", "server", "smashed", None, "")
GEN = torch.Generator().manual_seed(0)


def there_and_back(values: Tensor) -> Tensor:
    sent = coded(Float16(), values, AT)
    return values if sent is None else decoded(Float16(), sent, AT)


def test_values_are_scaled_to_the_end_of_the_range() -> None:
    """The largest is 5e-4 = 0.512 * 2**-10, so all are multiplied by 2**25; unscaled the first would be 1.0133e-6."""
    values = torch.tensor([1e-6, -3e-4, 5e-4])
    exponent, half = Float16().encode(values, AT)
    assert exponent.tobytes() == b"\x19\x00"
    assert half.dtype == "<f2"
    assert half.tolist() == [33.5625, -10064.0, 16784.0]
    back = Float16().decode((exponent, half), (3,), torch.float32, AT)
    assert back.tolist() == [33.5625 / 2**25, -10064 / 2**25, 16784 / 2**25]


@pytest.mark.parametrize(("shape", "num_bytes"), [((32, 32, 7, 7), 100_378), ((17, 32, 7, 7), 53_338), ((64,), 142)])
def test_sizes(shape: tuple[int, ...], num_bytes: int) -> None:
    """A header of 8 bytes and 4 per dimension, two for the exponent, two for each value."""
    assert coded_bytes(Float16(), shape, torch.float32) == num_bytes
    sent = coded(Float16(), torch.randn(shape, generator=GEN), AT)
    assert sent is not None
    assert sent.num_bytes == len(sent.header) + sum(array.nbytes for array in sent.arrays) == num_bytes
    assert len(sent.header) == header_bytes(len(shape))


def test_the_header_says_what_the_tensor_was() -> None:
    header = Header(1, "gradients", torch.float64, (2, 3, 4, 5), 242, channels_last=True)
    packed = header.packed()
    assert packed[:8] == bytes([1, 0b0001_1000, 1, 4, 242, 0, 0, 0])
    assert packed[8:16] == bytes([2, 0, 0, 0, 3, 0, 0, 0])
    assert unpacked(packed) == header


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-300, 1e-40, 1e-30, 1e-8, 1.0, 1e8, 1e30, 1e300])
def test_errors_stay_within_half_a_step_at_every_scale(dtype: torch.dtype, scale: float) -> None:
    values = (torch.randn(1000, generator=GEN, dtype=torch.float64) * scale).to(dtype)
    if not values.isfinite().all():
        return
    back = there_and_back(values)
    largest = float(values.abs().max())
    step = math.ldexp(1, math.frexp(largest)[1] - 39) if largest else 0.0  # the least float16, scaled back
    least = torch.finfo(dtype).tiny * torch.finfo(dtype).eps  # subnormal results are rounded once more
    bound = values.abs().double() * 2**-11 + step / 2 + least
    assert bool(((back.double() - values.double()).abs() <= bound).all())
    assert back.dtype == dtype


def test_a_value_is_rounded_once_in_double_precision() -> None:
    """1 + 2**-11 + 2**-40 lies above a tie of float16, which a step over float32 would round down to even."""
    values = torch.full((64,), 1 + 2**-11 + 2**-40, dtype=torch.float64)
    assert there_and_back(values).tolist() == [1 + 2**-10] * 64


def test_zeros_stay_zeros() -> None:
    assert there_and_back(torch.zeros(64)).tolist() == [0.0] * 64
    values = torch.randn(100, generator=GEN).relu()
    assert bool((there_and_back(values)[values == 0] == 0).all())


@pytest.mark.parametrize(
    "values",
    [
        torch.full((64,), float("nan")),
        torch.tensor([float("inf"), *[1.0] * 99]),
        torch.arange(100),
        torch.ones(100, dtype=torch.bool),
        torch.ones(63),
        torch.ones(100, dtype=torch.float16),
        torch.empty(0, 4),
    ],
    ids=["nan", "inf", "integers", "bool", "small", "no smaller", "empty"],
)
def test_unusual_tensors_go_as_they_are(values: Tensor) -> None:
    assert coded(Float16(), values, AT) is None


def test_memory_order_and_shape_come_back() -> None:
    image = torch.randn(2, 3, 4, 5, generator=GEN)
    for sent in (image, image.to(memory_format=torch.channels_last), image.transpose(1, 3)):
        back = there_and_back(sent)
        assert torch.equal(back, there_and_back(sent.contiguous()))
        assert back.shape == sent.shape
    assert there_and_back(image.to(memory_format=torch.channels_last)).is_contiguous(memory_format=torch.channels_last)
    assert there_and_back(image.clone().requires_grad_()).requires_grad is False


def test_names() -> None:
    assert codec_named("identity") is None
    assert isinstance(codec_named("float16"), Float16)
    assert isinstance(codec_named("raysplit.cluster.codecs.casts:Float16"), Float16)
    with pytest.raises(ValueError, match="unknown codec 'flaot16'; did you mean 'float16'"):
        codec_named("flaot16")
    with pytest.raises(ValueError, match="must be a subclass of"):
        codec_named("yaml:SafeLoader")
    numbers = [codec.number for codec in CODECS.values()]
    assert len(set(numbers)) == len(numbers)
    assert Coded.__reduce__(coded(Float16(), torch.ones(100), AT))[0] is Coded  # type: ignore[arg-type]
