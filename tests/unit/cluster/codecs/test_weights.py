"""Codecs for differences of weights, and error feedback, which adds what was left out to the next difference."""

from __future__ import annotations

import pytest
import torch

from raysplit.cluster.codecs.codec import Memory, Passage
from raysplit.cluster.codecs.sparse import TopK
from raysplit.cluster.codecs.weights import STC, Feedback, PowerSGD

GEN = torch.Generator().manual_seed(0)


def passage(memory: Memory) -> Passage:
    return Passage("owner-0", "aggregator", "weights", None, "weight", memory=memory)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-4), (torch.float64, 1e-12)])
def test_nothing_is_lost_with_feedback(dtype: torch.dtype, tolerance: float) -> None:
    """What was sent and what is left out add up to all differences."""
    memory, sent = Memory(), torch.zeros(1000, dtype=torch.float64)
    codec, total = Feedback(TopK(ratio=0.01, by="tensor")), torch.zeros(1000, dtype=torch.float64)
    for _ in range(200):
        change = torch.randn(1000, generator=GEN, dtype=dtype)
        arrays = codec.encode(change, passage(memory))
        assert arrays is not None
        memory.commit()
        sent += codec.decode(arrays, (1000,), dtype, passage(memory)).double()
        total += change.double()
    (left_out,) = memory.kept.values()
    assert float((sent + left_out.double() - total).abs().max()) < tolerance


def test_without_feedback_a_sparse_codec_can_stand_still() -> None:
    """Two owners pull the first weight to 10 and to -10, and both pull the others to 1: only the first is sent."""
    targets = torch.tensor([[10.0, 1, 1], [-10.0, 1, 1]])
    for with_feedback in (False, True):
        memories = Memory(), Memory()
        plain = TopK(ratio=1 / 3, by="tensor")
        codec = Feedback(plain) if with_feedback else plain
        weights = torch.zeros(3)
        for _ in range(1000):
            changes = []
            for target, memory in zip(targets, memories, strict=True):
                arrays = codec.encode(0.01 * (target - weights), passage(memory))
                assert arrays is not None
                memory.commit()
                changes.append(codec.decode(arrays, (3,), torch.float32, passage(memory)))
            weights = weights + sum(changes) / 2
        if with_feedback:
            assert torch.allclose(weights, torch.tensor([0.0, 1.0, 1.0]), atol=0.1)
        else:
            assert weights[1:].tolist() == [0, 0]


def test_what_the_receiver_refuses_is_not_left_out() -> None:
    memory, codec = Memory(), Feedback(TopK(ratio=0.01, by="tensor"))
    first = torch.randn(1000, generator=GEN)
    codec.encode(first, passage(memory))
    assert not memory.kept  # it waits until the receiver has taken the value
    again = codec.encode(first, passage(memory))
    assert again is not None
    memory.commit()
    (left_out,) = memory.kept.values()
    assert torch.equal(left_out + codec.decode(again, (1000,), torch.float32, passage(memory)), first)


def test_signs_and_one_magnitude() -> None:
    """The two largest of eight have a mean of 3.5; 2 * 3 bits of positions, 2 signs and 4 bytes."""
    values = torch.tensor([0.5, -3, 0, 1, 4, 0, 0, 1])
    codec = STC(ratio=0.25)
    arrays = codec.encode(values, passage(Memory()))
    assert [array.nbytes for array in arrays] == [1, 1, 4]
    assert codec.size((8,), torch.float32) == 6
    found = codec.decode(arrays, (8,), torch.float32, passage(Memory()))
    assert found.tolist() == [0, -3.5, 0, 0, 3.5, 0, 0, 0]


def test_low_rank_comes_back_and_the_factor_is_kept() -> None:
    left, right = torch.randn(40, 2, generator=GEN), torch.randn(2, 60, generator=GEN)
    memory, codec = Memory(), PowerSGD(rank=2)
    arrays = codec.encode(left @ right, passage(memory))
    found = codec.decode(arrays, (40, 60), torch.float32, passage(memory))
    assert torch.allclose(found, left @ right, atol=1e-4)
    assert codec.size((40, 60), torch.float32) == sum(array.nbytes for array in arrays) == 4 * 2 * (40 + 60)
    memory.commit()
    assert [factor.shape for factor in memory.kept.values()] == [(60, 2)]
    assert not codec.takes((3, 5), torch.float32)
