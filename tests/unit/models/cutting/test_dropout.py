"""Dropout masks keyed by the step's seed and the module's path."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from raysplit.models.cutting.dropout import Grain, SeededDropout, SteadyDropout, dropout_stream, seed_dropouts
from raysplit.models.cutting.split import trace


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


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_that_is_kept_is_that_of_a_fair_draw(p: float) -> None:
    """Of a million draws at most four standard deviations away; one of 16,000 seeds would be by chance."""
    num = 10**6
    kept = (draw(SeededDropout("here", p, "element"), 1, (1000, 1000)) != 0).sum().item()
    assert abs(kept - (1 - p) * num) <= 4 * (p * (1 - p) * num) ** 0.5


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


class Dropouts(nn.Module):
    """Every kind of dropout; one module serves twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 12)
        self.drop = nn.Dropout(0.5)
        self.maps = nn.Conv1d(3, 4, 1)
        self.channels = nn.Dropout1d(0.5)
        self.row = StochasticDepth(0.5, "row")
        self.batch = StochasticDepth(0.3, "batch")
        self.last = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(self.first(self.drop(x)))
        h = self.batch(self.row(self.channels(self.maps(h.unflatten(1, (3, 4))))))
        h = F.dropout1d(h, 0.3, training=self.training)
        h = F.dropout(self.last(h.flatten(1)), 0.4, training=self.training)
        return F.dropout(h, 0.25)  # in evaluation, too


def run(parts: Sequence[nn.Module], x: Tensor) -> tuple[Tensor, dict[str, Tensor | None]]:
    """The output of the parts in a row, and the gradients of its sum."""
    crossing: tuple[Tensor, ...] = (x,)
    for part in parts:
        out = part(*crossing)
        crossing = out if isinstance(out, tuple) else (out,)
    (output,) = crossing
    output.sum().backward()
    return output.detach(), {name: weight.grad for part in parts for name, weight in part.named_parameters()}


def assert_same_run(parts: Sequence[nn.Module], x: Tensor, expected: tuple[Tensor, dict[str, Tensor | None]]) -> None:
    output, gradients = run(parts, x)
    assert torch.equal(output, expected[0])
    assert gradients.keys() == expected[1].keys()
    assert all(torch.equal(gradient, expected[1][name]) for name, gradient in gradients.items())


def test_masks_do_not_depend_on_the_cut() -> None:
    x = torch.randn(2, 12, generator=torch.Generator().manual_seed(0))
    traced = trace(Dropouts(), x)
    names = [point.name for point in traced.cut_points]
    assert names == [
        *("drop#1", "first", "drop#2", "unflatten", "maps", "channels", "row", "batch"),
        *("dropout1d_module", "flatten", "last", "dropout_module"),
    ]
    outputs = []
    for seed in range(2):
        with dropout_stream(seed):
            expected = run(traced.copy().cut([]), x)
            for cuts in [*([name] for name in names), names]:
                assert_same_run(traced.copy().cut(cuts), x, expected)
        outputs.append(expected[0])
    assert not torch.equal(*outputs)


def test_a_module_called_twice_draws_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.drop(x), self.drop(x)], dim=1)

    (whole,) = trace(Twice(), torch.ones(1, 64)).cut([])
    out = draw(whole, 1, (1, 64))
    assert not torch.equal(out[:, 0], out[:, 1])


def test_a_cut_model_outside_a_stream_draws_as_the_model_does() -> None:
    model = Dropouts()
    x = torch.randn(2, 12, generator=torch.Generator().manual_seed(0))
    parts = trace(model, x).copy().cut(["maps", "last"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        expected = run([model], x)
        torch.manual_seed(5)
        assert_same_run(parts, x, expected)


def test_evaluation_of_a_cut_model_keeps_only_the_steady_dropout() -> None:
    x = torch.randn(2, 12, generator=torch.Generator().manual_seed(0))
    model = Dropouts().eval()
    first, last = trace(model, x).cut(["last"])
    h = first(x)
    assert torch.equal(h, model.last(model.maps(model.first(x).unflatten(1, (3, 4))).flatten(1)))
    assert draw(last, 1, (4, 8)).eq(0).any()
