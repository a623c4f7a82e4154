"""A graph is refused where it learns something else than the model as written, though their outputs are the same."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysplit.models.cutting import same_model
from raysplit.models.cutting.split import trace
from raysplit.models.cutting.tracing import leaf

X = torch.randn(1, 6, generator=torch.Generator().manual_seed(1))


class Reverse(torch.autograd.Function):
    """Gradient reversal (Ganin, Lempitsky, 2015, arXiv 1409.7495)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        return -g


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def between(self, h: Tensor) -> Tensor:
        return h

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(torch.relu(self.a(x))))  # type: ignore[no-any-return]


class Reversing(TwoLayers):
    def between(self, h: Tensor) -> Tensor:
        return Reverse.apply(h)  # type: ignore[no-untyped-call,no-any-return]


class FixedFront(TwoLayers):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            h = self.a(x)
        return self.b(h)  # type: ignore[no-any-return]


class NowAndThen(TwoLayers):
    """Doubles what a layer gives, on a random number."""

    def between(self, h: Tensor) -> Tensor:
        return 2 * h if float(torch.rand(())) < 0.5 else 1 * h


class KeepsMean(TwoLayers):
    """Counts its calls in a buffer through a new name."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def between(self, h: Tensor) -> Tensor:
        self.count.add_(1).add_(1)
        return h


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (Reversing, "another gradient of 'a.weight' than the model.*torch.autograd.Function; .*raysplit.leaf"),
        (FixedFront, r"another gradient of 'a.weight' than the model.* torch.no_grad\(\)"),
        (KeepsMean, "another value in the buffer 'count'"),
    ],
)
def test_a_gradient_that_is_traced_away_is_refused(build: Callable[[], nn.Module], says: str) -> None:
    """A gradient reversal trained with the wrong sign once its model was cut, and a layer under no_grad was trained:
    only outputs were compared."""
    with pytest.raises(ValueError, match=says):
        trace(build(), X, front_end="fx")


def test_the_way_out_is_one() -> None:
    @leaf
    class Hidden(nn.Module):
        def forward(self, h: Tensor) -> Tensor:
            return Reverse.apply(h)  # type: ignore[no-untyped-call,no-any-return]

    class WithLeaf(TwoLayers):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = Hidden()

        def between(self, h: Tensor) -> Tensor:
            return self.hidden(h)  # type: ignore[no-any-return]

    model = WithLeaf()
    first, last = trace(copy.deepcopy(model), X).cut(["hidden"])
    model(X).sum().backward()
    last(first(X)).sum().backward()
    assert torch.equal(first.get_parameter("a.weight").grad, model.a.weight.grad)  # type: ignore[arg-type]


def test_models_that_draw_write_and_share_are_accepted_as_before() -> None:
    class Everything(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.relu = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
            self.drop, self.out = nn.Dropout2d(0.3), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.drop(self.relu(self.norm(self.conv(F.relu_(x)))))
            h = h + torch.rand_like(h) * 0.1
            return self.out(self.drop(F.dropout(h, 0.2, self.training)).mean((2, 3)))  # type: ignore[no-any-return]

    model = Everything()
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(1, 2, 5, 5)
    assert trace(model, x).cut_points
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not x.requires_grad


@pytest.mark.parametrize("seed", range(8))
def test_a_branch_on_a_random_number_is_seen(seed: int) -> None:
    """A trace freezes the branch that it took, which may be the one that the next run takes as well."""
    torch.manual_seed(seed)
    with pytest.raises(ValueError, match=r"draws a random number|something else in eval\(\)"):
        trace(NowAndThen(), X, front_end="fx")


def test_very_large_models_are_not_compared(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(same_model, "MAX_BYTES", 100)
    assert trace(Reversing(), X, front_end="fx").cut_points
    assert "are not compared: it has" in caplog.text


class Counting(TwoLayers):
    """Divides by the number of its passes, which is an attribute and no buffer."""

    passes = 0

    def between(self, h: Tensor) -> Tensor:
        self.passes += 1
        return h / self.passes


class OwnGenerator(TwoLayers):
    """Draws from a random generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(1)

    def between(self, h: Tensor) -> Tensor:
        return h + torch.randn(8, generator=self.generator)


@pytest.mark.parametrize("kind", [Counting, OwnGenerator])
def test_what_a_trace_freezes_from_the_second_batch_on_is_refused(kind: type[nn.Module]) -> None:
    """A counter and a generator of a model's own were constants of the graph, equal to the model in its first batch."""
    with pytest.raises(ValueError, match=f"from its second batch on, the graph of {kind.__name__} .* raysplit.leaf"):
        trace(kind(), X, front_end="fx")
    assert same_model.keeps_hidden_state(kind(), X)


def test_weights_buffers_and_keyed_draws_are_no_hidden_state() -> None:
    steady = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.RReLU(), nn.Linear(8, 3))
    assert not same_model.keeps_hidden_state(steady, X)
    assert not same_model.keeps_hidden_state(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 3)), X)
