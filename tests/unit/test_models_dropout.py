"""Dropout masks keyed by the step's seed and the module's path."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from raysplit.models.dropout import Grain, SeededDropout, SteadyDropout, dropout_stream, seed_dropouts


def draw(dropout: nn.Module, seed: int, shape: tuple[int, ...] = (4, 8, 3)) -> Tensor:
    with dropout_stream(seed):
        out: Tensor = dropout(torch.ones(shape))
    return out


def test_masks_are_keyed_by_seed_and_path_alone() -> None:
    here, there = SeededDropout("here", 0.5, "element"), SeededDropout("there", 0.5, "element")
    expected = draw(here, 1)
    torch.rand(3)  # other draws do not matter
    assert torch.equal(draw(here, 1), expected)
    assert torch.equal(draw(SeededDropout("here", 0.5, "element"), 1), expected)
    assert not torch.equal(draw(here, 2), expected)
    assert not torch.equal(draw(there, 1), expected)


def test_torchs_stream_is_not_touched_within_a_stream() -> None:
    before = torch.get_rng_state()
    draw(SeededDropout("here", 0.5, "element"), 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_streams_nest() -> None:
    dropout = SeededDropout("here", 0.5, "element")
    with dropout_stream(1):
        assert torch.equal(draw(dropout, 2), draw(dropout, 2))
        inside = dropout(torch.ones(4, 8, 3))
    assert torch.equal(inside, draw(dropout, 1))


@pytest.mark.parametrize(
    ("grain", "whole"), [("element", ()), ("channel", (2,)), ("row", (1, 2)), ("batch", (0, 1, 2))], ids=str
)
def test_grain_is_dropped_or_kept_as_a_whole(grain: Grain, whole: tuple[int, ...]) -> None:
    out = torch.stack([draw(SeededDropout("here", 0.5, grain), seed) for seed in range(100)])
    assert set(out.unique().tolist()) == {0.0, 2.0}  # kept values are scaled by 1 / (1 - p)
    if whole:
        dims = tuple(dim + 1 for dim in whole)
        assert torch.equal(out.amax(dims), out.amin(dims))
    assert abs(out.mean().item() - 1.0) < 0.35


@pytest.mark.parametrize(
    ("build", "grain", "shape"),
    [
        (lambda: nn.Dropout(0.3), "element", (4, 8)),
        (lambda: nn.Dropout1d(0.3), "channel", (4, 8, 3)),
        (lambda: nn.Dropout2d(0.3), "channel", (4, 8, 3, 3)),
        (lambda: nn.Dropout3d(0.3), "channel", (4, 8, 2, 2, 2)),
        (lambda: StochasticDepth(0.3, "row"), "row", (4, 8)),
        (lambda: StochasticDepth(0.3, "batch"), "batch", (4, 8)),
    ],
)
def test_outside_a_stream_bits_are_torchs(build: Callable[[], nn.Module], grain: Grain, shape: tuple[int, ...]) -> None:
    model = nn.Sequential(build())
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = model(x)
        seed_dropouts(model)
        assert isinstance(model[0], SeededDropout)
        assert (model[0].path, model[0].p, model[0].grain) == ("0", 0.3, grain)
        torch.manual_seed(3)
        assert torch.equal(model(x), expected)


@pytest.mark.parametrize(("p", "expected"), [(0.0, 1.0), (1.0, 0.0)])
def test_certain_outcomes(p: float, expected: float) -> None:
    assert draw(SeededDropout("here", p, "element"), 1).eq(expected).all()


def test_evaluation_drops_nothing_unless_the_model_says_so() -> None:
    assert draw(SeededDropout("here", 0.5, "element").eval(), 1).eq(1).all()
    assert draw(SteadyDropout("here", 0.5, "element").eval(), 1).eq(0).any()


def test_replacing_keeps_state_names_modes_and_sharing() -> None:
    shared = nn.Dropout(0.5).eval()
    model = nn.Sequential(nn.Linear(2, 2), shared, nn.Sequential(nn.Dropout(0.1), shared), nn.AlphaDropout())
    names = list(model.state_dict())
    seed_dropouts(model)
    assert list(model.state_dict()) == names == ["0.weight", "0.bias"]
    assert model[1] is model[2][1]
    assert not model[1].training
    assert model[2][0].path == "2.0"
    assert isinstance(model[3], nn.AlphaDropout)
