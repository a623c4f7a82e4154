"""Models that say their own units: parts equal the whole, in bits, and a run over cuts one without."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from chained_nets import VOCABULARY, Chained, Doubled, Peeking, Torn, sequential
from sequence_support import sentences
from support import same
from torch import Tensor, nn

import raysplit
from raysplit.models.cutting.dropout import dropout_stream
from raysplit.models.cutting.split import trace

EXAMPLE = {"ids": torch.arange(6)[None] % VOCABULARY, "attention_mask": torch.ones(1, 6, dtype=torch.bool)}


def passed(parts: list[nn.Module], batch: Any, seed: int = 3) -> tuple[Tensor, dict[str, Tensor]]:
    first, *others = parts
    with dropout_stream(seed):
        z = first(batch) if isinstance(batch, Tensor) else first(**batch)
        for part in others:
            z = part(*z) if isinstance(z, tuple) else part(z)
    z.square().sum().backward()
    return z, {name: p.grad.clone() for part in parts for name, p in part.named_parameters() if p.grad is not None}


def test_parts_of_a_chain_equal_the_whole_with_all_that_they_draw() -> None:
    """Blocks that depend on values and call F.dropout, which neither torch.fx nor torch.export can follow."""
    model = Chained(4)
    with pytest.raises(ValueError, match=r"cannot trace module 'blocks.0'"):
        trace(model, EXAMPLE, front_end="fx")
    traced = trace(model, EXAMPLE, front_end="chain", kept_back={"ids"}, side={"attention_mask"})
    assert (traced.front_end, traced.units) == ("chain", ("blocks.0", "blocks.1", "blocks.2"))
    assert [(point.name, point.unit) for point in traced.cut_points] == [
        ("before", None),
        ("blocks.0", 1),
        ("blocks.1", 2),
        ("blocks.2", None),
    ]
    batch = {"ids": torch.arange(15).reshape(3, 5) % VOCABULARY, "attention_mask": torch.ones(3, 5, dtype=torch.bool)}
    whole, gradients = passed(traced.copy().cut([]), batch)
    assert gradients.keys() == dict(model.named_parameters()).keys()
    for cuts in (["before"], [1], [2], [1, 2], ["blocks.2"]):
        torch.manual_seed(len(cuts))  # what the process has drawn before does not matter
        output, own = passed(traced.copy().cut(cuts), batch)
        assert torch.equal(output, whole)
        assert same(own, gradients)
    assert not torch.equal(passed(traced.copy().cut([1]), batch, seed=4)[0], whole)
    parts = [part.eval() for part in traced.cut([1, 2])]
    assert {name for part in parts for name in part.state_dict()} == model.state_dict().keys()
    assert torch.equal(passed(parts, batch)[0], model.eval()(**batch))


def test_children_of_a_sequential_may_take_and_give_tuples() -> None:
    model, x = sequential(), torch.randn(5, 4)
    traced = trace(model, x[:1], front_end="chain")
    assert traced.units == tuple("0123456")
    assert [len(point.shapes) for point in traced.cut_points] == [1, 2, 2, 2, 1, 1]
    for cuts in combinations(range(1, 7), 2):
        output, own = passed(traced.copy().cut(cuts), x.clone())
        assert torch.equal(output, model(x))
        assert same(own, passed(traced.copy().cut([]), x.clone())[1])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(4, 4), "Linear is no chain: a chain is an nn.Sequential, or a class with the methods before"),
        (Doubled(4), "the graph of Doubled computes something else than the model"),
        (Peeking(4), "after of Peeking fails: ValueError: after uses blocks, which are units of their own"),
        (Torn(4), r"before of Torn fails: RuntimeError: no such table at .*chained_nets.py"),
    ],
)
def test_what_is_no_chain_is_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trace(model, torch.randn(1, 4) if isinstance(model, nn.Linear) else EXAMPLE, front_end="chain")


def test_a_chain_trains_over_cuts_as_without(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "data": {"name": sentences(tmp_path), "vocabulary": VOCABULARY},
        "model": {"name": "chained_nets:Chained", "front_end": "chain"},
        "partition": {"name": "natural_id", "num_owners": 3},
        "training": {"rounds": 2, "batch_size": 10, "optimizer": {"name": "adam", "lr": 0.01}},
        "cluster": "local",
    }
    whole = raysplit.train(**given, algorithm="fedavg").states["global"]
    for cut in (1, "blocks.1"):
        split = raysplit.train(**given, algorithm={"name": "splitfed_v1", "cut": cut})
        assert same(split.states["global"], whole)
    usual = {**given, "model": {"name": "chained_nets:Chained"}}
    with pytest.raises(ValueError, match=r"front_end: chain"):
        raysplit.train(**usual, algorithm={"name": "splitfed_v1", "cut": 1})
