"""The wire format: exact bytes, exact round trips, and a typed refusal for everything else."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysplit.serving.codec import (
    HEADER_BYTES,
    Content,
    Limits,
    Message,
    Reason,
    WireError,
    check_size,
    decode,
    encode,
    masked_tasks,
    task_mask,
)
from raysplit.serving.compression import Encoding, pack, unpack

LIMITS = Limits(max_body_bytes=4096, max_rows=1000, max_values=1000)
FLOATS = [Encoding.FLOAT32, Encoding.FLOAT16, Encoding.INT8, Encoding.ZLIB]


def _message(values: list[float], rows: int = 1, content: Content = Content.FEATURES) -> Message:
    return Message(content=content, tasks=0b101, tensor=torch.tensor(values).reshape(rows, -1))


def _refusal(body: bytes, limits: Limits = LIMITS) -> Reason:
    with pytest.raises(WireError) as caught:
        decode(body, limits)
    assert str(caught.value)
    return caught.value.reason


def _sealed(fields: bytes, payload: bytes) -> bytes:
    """A message with a right checksum whatever its 40 bytes of fields say."""
    return fields + struct.pack("<I", zlib.crc32(fields + payload)) + payload


def test_the_bytes_of_a_message_are_these() -> None:
    fields = bytes.fromhex(
        "52534d54"  # RSMT
        "01" "00" "00" "02"  # version, features, float32, two dimensions
        "05000000"  # tasks 0 and 2
        "00000000" "00000000"  # no int8 scale, no zero point
        "01000000" "02000000" "00000000" "00000000"  # [1, 2]
        "08000000"
    )  # fmt: skip
    payload = bytes.fromhex("0000803f000000c0")  # 1.0, -2.0
    body = encode(_message([1.0, -2.0]))
    assert body == _sealed(fields, payload)
    assert HEADER_BYTES == 44
    back = decode(body, LIMITS)
    assert (back.content, back.tasks, back.tensor.tolist()) == (Content.FEATURES, 0b101, [[1.0, -2.0]])


@pytest.mark.parametrize("encoding", [Encoding.FLOAT32, Encoding.ZLIB])
def test_lossless_encodings_give_the_same_bits_back(encoding: Encoding) -> None:
    values = torch.randn(3, 70, generator=torch.Generator().manual_seed(1)).relu()
    values[0, :3] = torch.tensor([float("nan"), float("-inf"), -0.0])
    back = decode(encode(Message(content=Content.FEATURES, tasks=1, tensor=values), encoding), LIMITS).tensor
    assert back.view(torch.int32).equal(values.view(torch.int32))
    back.add_(1)  # memory of its own: writing is allowed


@pytest.mark.parametrize(
    ("features", "encoding", "size"),
    [
        (2_048, Encoding.FLOAT32, 8_192), (2_304, Encoding.FLOAT32, 9_216), (5_120, Encoding.FLOAT32, 20_480),
        (25_088, Encoding.FLOAT32, 100_352), (28_224, Encoding.FLOAT32, 112_896), (62_720, Encoding.FLOAT32, 250_880),
        (62_720, Encoding.FLOAT16, 125_440), (62_720, Encoding.INT8, 62_720),
    ],
)  # fmt: skip
def test_a_message_is_the_header_and_the_payload(features: int, encoding: Encoding, size: int) -> None:
    message = Message(content=Content.FEATURES, tasks=1, tensor=torch.ones(1, features))
    assert len(encode(message, encoding)) == 44 + size


def test_pictures_travel_as_bytes() -> None:
    pictures = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).reshape(2, 3, 4, 4)
    body = encode(Message(content=Content.IMAGES, tasks=1, tensor=pictures), Encoding.UINT8)
    assert len(body) == 44 + 96
    assert decode(body, LIMITS).tensor.equal(pictures)
    with pytest.raises(ValueError, match=r"the uint8 encoding needs a uint8 tensor, got torch\.float32"):
        pack(torch.ones(2), Encoding.UINT8)


def test_half_precision_is_that_of_torch() -> None:
    values = torch.randn(1, 500, generator=torch.Generator().manual_seed(2))
    assert unpack(pack(values, Encoding.FLOAT16), Encoding.FLOAT16, (1, 500)).equal(values.half().float())
    with pytest.raises(ValueError, match="float16 ends at 65504, got 70000"):
        pack(torch.tensor([-70000.0]), Encoding.FLOAT16)


def test_int8_of_a_drawn_example() -> None:
    """Range -1 .. 1.55 in 255 steps of 0.01: -1 is the lowest level -128, so 0 is level -28."""
    packed = pack(torch.tensor([-1.0, 0.0, 0.014, 1.55]), Encoding.INT8)
    assert packed.scale == pytest.approx(0.01, rel=1e-6)
    assert packed.zero == -28
    assert np.frombuffer(packed.payload, np.int8).tolist() == [-128, -28, -27, 127]
    assert pack(torch.zeros(3), Encoding.INT8).payload == bytes([128] * 3)
    with pytest.raises(ValueError, match="int8 needs finite features"):
        pack(torch.tensor([float("nan"), 1.0]), Encoding.INT8)


@given(st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=1, max_size=40))
def test_int8_errs_by_half_a_step_at_most(values: list[float]) -> None:
    exact = torch.tensor(values)
    packed = pack(exact, Encoding.INT8)
    assert -128 <= packed.zero <= 127
    back = unpack(packed, Encoding.INT8, (len(values),))
    error = (back.double() - exact.double()).abs().max().item()
    rounding = 2.0**-24 * back.double().abs().max().item()  # of the product (byte - zero) * scale in float32
    assert error <= packed.scale / 2 + rounding + 1e-45


def test_zeros_of_a_relu_pack_well() -> None:
    values = torch.randn(1, 1000, generator=torch.Generator().manual_seed(3)).relu()
    assert len(pack(values, Encoding.ZLIB).payload) < 0.7 * 4000


@settings(max_examples=300)
@given(encoding=st.sampled_from(FLOATS), cut=st.integers(0, 200))
def test_a_truncated_message_is_refused(encoding: Encoding, cut: int) -> None:
    body = encode(_message([0.5, 0.0, 3.0, -1.0]), encoding)
    shorter = body[: min(cut, len(body) - 1)]
    assert _refusal(shorter) in (Reason.TRUNCATED, Reason.LENGTH)


@settings(max_examples=300)
@given(encoding=st.sampled_from(FLOATS), extra=st.binary(min_size=1, max_size=64))
def test_a_message_with_bytes_behind_it_is_refused(encoding: Encoding, extra: bytes) -> None:
    assert _refusal(encode(_message([0.5, 0.0, 3.0, -1.0]), encoding) + extra) is Reason.LENGTH


@settings(max_examples=500)
@given(encoding=st.sampled_from(FLOATS), data=st.data())
def test_a_flipped_bit_is_always_noticed(encoding: Encoding, data: st.DataObject) -> None:
    body = bytearray(encode(_message([0.5, 0.0, 3.0, -1.0]), encoding))
    bit = data.draw(st.integers(0, 8 * len(body) - 1))
    body[bit // 8] ^= 1 << bit % 8
    _refusal(bytes(body))


@settings(max_examples=500)
@given(body=st.binary(max_size=300), sealed=st.booleans())
def test_any_bytes_are_a_message_or_a_refusal(body: bytes, sealed: bool) -> None:
    start = struct.pack("<4sB", b"RSMT", 1) + body
    candidate = _sealed(start[:40], start[40:]) if sealed and len(start) > 40 else body
    try:
        decode(candidate, LIMITS)
    except WireError as error:
        assert error.reason in Reason  # noqa: PT017


@settings(max_examples=500)
@given(
    fields=st.tuples(
        st.sampled_from([0, 1, 2, 3, 255]), st.sampled_from([0, 1, 2, 3, 4, 5, 255]), st.integers(0, 5),
        st.integers(0, 2**32 - 1), st.floats(width=32), st.integers(-128, 127),
    ),
    shape=st.lists(st.sampled_from([0, 1, 2, 4, 1001, 2**16, 2**32 - 1]), min_size=4, max_size=4),
    size=st.sampled_from([0, 4, 8, 16, 2**32 - 1]),
    payload=st.binary(max_size=16),
)  # fmt: skip
def test_any_header_with_a_right_checksum_is_a_message_or_a_refusal(
    fields: tuple[int, int, int, int, float, int], shape: list[int], size: int, payload: bytes
) -> None:
    body = _sealed(struct.pack("<4sBBBBIfb3x4II", b"RSMT", 1, *fields, *shape, size), payload)
    try:
        message = decode(body, LIMITS)
    except WireError:
        return
    assert 1 <= message.tensor.numel() <= LIMITS.max_values


def _with(position: int, value: bytes) -> bytes:
    """A good message of two float32 with some bytes replaced and a new checksum."""
    body = bytearray(encode(_message([1.0, 2.0])))
    body[position : position + len(value)] = value
    return _sealed(bytes(body[:40]), bytes(body[44:]))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (_with(0, b"HTTP"), Reason.MAGIC),
        (_with(4, b"\2"), Reason.VERSION),
        (_with(5, b"\7"), Reason.CONTENT),
        (_with(6, b"\7"), Reason.ENCODING),
        (_with(7, b"\0"), Reason.SHAPE),
        (_with(7, b"\5"), Reason.SHAPE),
        (_with(20, struct.pack("<I", 0)), Reason.SHAPE),
        (_with(28, struct.pack("<I", 1)), Reason.SHAPE),
        (_with(20, struct.pack("<2I", 2**32 - 1, 2**32 - 1)), Reason.OVERSIZED),
        (_with(24, struct.pack("<I", 3)), Reason.LENGTH),
        (_with(36, struct.pack("<I", 4)), Reason.LENGTH),
        (_with(6, b"\1"), Reason.LENGTH),
        (_with(12, struct.pack("<f", 1.0)), Reason.PARAMETERS),
        (_with(6, b"\3"), Reason.PAYLOAD),
        (b"", Reason.TRUNCATED),
        (b"RSMT", Reason.TRUNCATED),
        (bytes(5000), Reason.OVERSIZED),
    ],
)
def test_each_mistake_has_its_reason(body: bytes, reason: Reason) -> None:
    assert _refusal(body) is reason


def test_int8_without_a_scale_is_refused() -> None:
    body = bytearray(encode(_message([1.0, 2.0]), Encoding.INT8))
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        body[12:16] = struct.pack("<f", scale)
        assert _refusal(_sealed(bytes(body[:40]), bytes(body[44:]))) is Reason.PARAMETERS


@pytest.mark.parametrize("held", [b"", bytes(7), bytes(9), bytes(10_000_000)])
def test_a_zlib_stream_that_holds_another_size_is_refused(held: bytes) -> None:
    """The last one is a bomb: 10 MB in 10 KB; no more than the 8 announced bytes are ever inflated."""
    payload = zlib.compress(held, level=9)
    body = bytearray(encode(_message([1.0, 2.0]), Encoding.ZLIB))
    body[36:40] = struct.pack("<I", len(payload))
    limits = Limits(max_body_bytes=20_000, max_rows=1000, max_values=1000)
    assert _refusal(_sealed(bytes(body[:40]), payload), limits) is Reason.PAYLOAD
    trailing = zlib.compress(bytes(8)) + b"more"
    body[36:40] = struct.pack("<I", len(trailing))
    assert _refusal(_sealed(bytes(body[:40]), trailing)) is Reason.PAYLOAD


def test_a_size_is_refused_before_the_body_is_read() -> None:
    with pytest.raises(WireError, match="the body has 4097 bytes, at most 4096 are accepted"):
        check_size(4097, LIMITS)
    with pytest.raises(WireError, match="fewer than a header of 44"):
        check_size(43, LIMITS)
    check_size(4096, LIMITS)


def test_what_cannot_be_sent_is_refused_by_the_sender() -> None:
    with pytest.raises(ValueError, match="1 to 4 dimensions"):
        encode(Message(content=Content.FEATURES, tasks=1, tensor=torch.tensor(1.0)))
    with pytest.raises(ValueError, match="1 to 4 dimensions"):
        encode(Message(content=Content.FEATURES, tasks=1, tensor=torch.ones(0, 3)))
    for mask in (0, 1 << 32):
        with pytest.raises(ValueError, match="task mask"):
            encode(Message(content=Content.FEATURES, tasks=mask, tensor=torch.ones(1, 1)))


def test_masks_name_tasks_in_order() -> None:
    tasks = ("age", "gender", "expression")
    assert task_mask(["expression", "age"], tasks) == 0b101
    assert masked_tasks(0b101, tasks) == ("age", "expression")
    with pytest.raises(WireError, match=r"unknown task 'hair' \(one of age, gender, expression\)"):
        task_mask(["hair"], tasks)
    for mask in (0, 0b1000):
        with pytest.raises(WireError, match="must select at least one of"):
            masked_tasks(mask, tasks)
