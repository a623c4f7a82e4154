"""Tensors as they cross a process border: out of band, bit for bit, and counted."""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from raysplit.cluster.contract import KindTraffic, LinkTraffic
from raysplit.cluster.links.link import Link
from raysplit.cluster.links.tensors import Envelope, num_bytes, opened
from raysplit.cluster.links.traffic import difference, merge_traffic

GEN = torch.Generator().manual_seed(0)
IMAGE = torch.randn(2, 3, 4, 5, generator=GEN)
TENSORS = {
    "float32": IMAGE,
    "float64": IMAGE.double(),
    "float16": IMAGE.half(),
    "bfloat16": IMAGE.bfloat16(),
    "int32": torch.arange(7, dtype=torch.int32),
    "bool": torch.tensor([True, False, True]),
    "scalar": torch.tensor(3.5),
    "empty": torch.empty(0, 4),
    "channels last": IMAGE.to(memory_format=torch.channels_last),
    "transposed": IMAGE.transpose(1, 3),
    "with gradient": IMAGE.clone().requires_grad_(),
}


def across(value: Any) -> tuple[Envelope, list[pickle.PickleBuffer]]:
    """Pickled and unpickled over read-only buffers, as shared memory is; the envelope and its buffers."""
    buffers: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(Envelope("owner-0", value).sealed(), protocol=5, buffer_callback=buffers.append)
    frozen = [bytes(buffer.raw()) for buffer in buffers]
    return opened(pickle.loads(stream, buffers=frozen)), buffers


@pytest.mark.parametrize("name", list(TENSORS))
def test_a_tensor_arrives_bit_for_bit(name: str) -> None:
    sent = TENSORS[name]
    envelope, buffers = across(sent)
    got: Tensor = envelope.value
    assert got.dtype == sent.dtype
    assert torch.equal(got, sent.detach())
    assert not got.requires_grad
    assert envelope.num_bytes == sent.numel() * sent.element_size()
    assert len(buffers) == (1 if sent.numel() else 0) or name == "empty"


@pytest.mark.parametrize(
    "sent",
    [
        IMAGE.to(memory_format=torch.channels_last),
        IMAGE.transpose(1, 3),
        IMAGE.permute(3, 1, 0, 2).bfloat16(),
        IMAGE[:, 1:, :, ::2],
        IMAGE[:, :, :, :1].expand(2, 3, 4, 7).transpose(1, 3),
        torch.tensor(2.0).expand(2, 3),
    ],
)
def test_memory_order_survives(sent: Tensor) -> None:
    """Kernels differ by memory order; a transposed gradient arrived contiguous, and weights got other last bits."""
    envelope, (buffer,) = across(sent)
    assert torch.equal(envelope.value, sent)
    assert envelope.value.stride() == sent.stride()
    assert buffer.raw().nbytes <= sent.nbytes


def test_windows_that_overlap_arrive_apart() -> None:
    windows = torch.arange(9.0).unfold(0, 3, 1)
    envelope, _ = across(windows)
    assert torch.equal(envelope.value, windows)


def test_nested_values_keep_their_form() -> None:
    sent = {"z": (IMAGE, [torch.arange(3)]), "step": 4, "name": "x"}
    envelope, buffers = across(sent)
    assert envelope.source == "owner-0"
    assert envelope.value["step"] == 4
    assert isinstance(envelope.value["z"], tuple)
    assert torch.equal(envelope.value["z"][1][0], torch.arange(3))
    assert envelope.num_bytes == num_bytes(sent) == 2 * 3 * 4 * 5 * 4 + 3 * 8
    assert len(buffers) == 2


class Point(NamedTuple):
    at: Tensor
    marks: np.ndarray[Any, Any]


def test_an_array_stays_an_array_beside_a_tensor_and_a_named_tuple_its_kind() -> None:
    envelope, _ = across(Point(at=torch.ones(2), marks=np.arange(3)))
    assert isinstance(envelope.value, Point)
    assert torch.equal(envelope.value.at, torch.ones(2))
    assert envelope.value.marks.tolist() == [0, 1, 2]


def test_a_value_without_tensors_travels_as_it_is() -> None:
    value = {"step": 3, "marks": np.arange(3), "nothing": torch.empty(0)}
    envelope, _ = across(value)
    assert envelope.num_bytes == 0
    assert envelope.value["marks"].tolist() == [0, 1, 2]
    assert envelope.value["nothing"].shape == (0,)


def test_a_million_bytes_are_not_copied_into_the_stream() -> None:
    sealed = Envelope("a", torch.zeros(250_000)).sealed()
    stream = pickle.dumps(sealed, protocol=5, buffer_callback=lambda _: None)
    assert len(stream) < 1000


def test_traffic_is_counted_by_link_and_a_party_s_own_calls_are_not() -> None:
    link = Link()
    link.arriving("owner-0", "server", None, 100)
    link.arriving("owner-0", "server", None, 50)
    link.arriving("server", "server", None, 999)
    link.arriving("server", "owner-0", None, 0)
    other = (KindTraffic("other", 150, 150),)
    counted = [LinkTraffic(source="owner-0", destination="server", num_bytes=150, num_messages=2, kinds=other)]
    assert link.traffic() == counted
    assert merge_traffic([counted, counted])[0].num_bytes == 300
    earlier = [LinkTraffic(source="owner-0", destination="server", num_bytes=100, num_messages=1)]
    assert difference(counted, earlier)[0].num_bytes == 50
    assert difference(counted, counted) == []
