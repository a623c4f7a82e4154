"""Codecs that remember samples: the error falls with every visit, and rows that do not change are not sent again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from raysplit.cluster.codecs import codec_named
from raysplit.cluster.codecs.codec import Codec, Memory, Passage
from raysplit.cluster.contract import current_samples
from raysplit.cluster.links.coding import coded, decoded
from raysplit.config.run import check_config

VALUES = torch.randn(64, 200, generator=torch.Generator().manual_seed(0))


class Step:
    owner, round, step = "owner-0", 0, 0


@pytest.fixture(autouse=True)
def samples() -> Iterator[None]:
    token = current_samples.set(torch.arange(100, 164))
    yield
    current_samples.reset(token)


class Ends:
    """Both ends of a link, with memories of their own."""

    def __init__(self, text: Any) -> None:
        found = codec_named(text)
        assert found is not None
        self.codec: Codec = found
        self.memories = Memory(), Memory()

    def send(self, values: Tensor) -> tuple[Tensor, int]:
        sender, receiver = [Passage("owner-0", "server", "smashed", Step(), "", memory=m) for m in self.memories]
        sent = coded(self.codec, values, sender)
        assert sent is not None
        return decoded(self.codec, sent, receiver), sent.num_bytes


def error(found: Tensor, values: Tensor) -> float:
    return float(((found - values) ** 2).sum() / (values**2).sum())


@pytest.mark.parametrize(("change", "falls"), [("int4", 100), ({"codec": "int2", "by": "tile"}, 2)])
def test_the_error_falls_with_every_visit(change: Any, falls: float) -> None:
    ends = Ends(["delta", change])
    first, first_bytes = ends.send(VALUES)
    assert error(first, VALUES) < 1e-4
    before = error(first, VALUES)
    for _ in range(3):
        again, num_bytes = ends.send(VALUES)
        assert num_bytes < 0.62 * first_bytes
        assert error(again, VALUES) < before / falls
        before = error(again, VALUES)
    kept = [memory.kept for memory in ends.memories]
    assert kept[0].keys() == kept[1].keys()
    assert all(torch.equal(kept[0][key], kept[1][key]) for key in kept[0])


def test_new_and_known_samples_in_one_batch() -> None:
    ends = Ends(["delta", "int4"])
    ends.send(VALUES)
    token = current_samples.set(torch.arange(132, 196))
    other = torch.cat([VALUES[32:], torch.randn(32, 200, generator=torch.Generator().manual_seed(1))])
    found, _ = ends.send(other)
    current_samples.reset(token)
    assert error(found[:32], other[:32]) < 1e-6
    assert error(found[32:], other[32:]) < 1e-4


def test_rows_that_do_not_change_are_not_sent() -> None:
    """Four bytes for the number of each sample, and a bit: 16 + 64 * 4 + 8."""
    ends = Ends({"codec": "skip", "similarity": 0.999})
    first, _ = ends.send(VALUES)
    again, num_bytes = ends.send(VALUES)
    assert torch.equal(first, again)
    assert num_bytes == 16 + 64 * 4 + 8
    changed = VALUES.clone()
    changed[3] = -changed[3]
    found, num_bytes = ends.send(changed)
    assert num_bytes == 16 + 64 * 4 + 8 + 5 + 200
    assert error(found[3], changed[3]) < 1e-4


def test_without_numbers_of_samples_they_are_refused() -> None:
    current_samples.set(None)
    with pytest.raises(ValueError, match="delta and skip need the numbers of the samples, which owner-0 does not know"):
        Ends("skip").send(VALUES)


def test_a_receiver_that_has_forgotten_says_so() -> None:
    ends = Ends("skip")
    ends.send(VALUES)
    ends.memories[1].kept.clear()
    with pytest.raises(ValueError, match="the receiver does not know sample 100"):
        ends.send(VALUES)


def test_delta_needs_a_codec_for_the_changes() -> None:
    for text in (["delta", "zstd"], ["delta", "delta", "int4"], ["delta", "top_k"]):
        with pytest.raises(ValueError, match="delta"):
            check_config({"links": {"smashed": text}})
