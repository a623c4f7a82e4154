"""Which cuts would send the samples themselves, in models that hide it in different ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from raysplit.data.inputs import Input
from raysplit.models.cutting.tracing import leaf
from raysplit.models.given_model import GivenModel
from raysplit.models.spec import ModelSpec


class Joined(nn.Module):
    """Concatenates its input to a late layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(14, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.b(torch.relu(self.a(x))))
        return self.c(torch.cat([h, 2 * x], 1))  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _same_weights() -> Iterator[None]:
    """A rectified unit that happens to be zero for all weights passes the input on, so the weights are fixed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield


class Residual(nn.Module):
    """A shortcut around the first layer only."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(x + torch.relu(self.a(x)))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(1, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x.unsqueeze(2).transpose(0, 1))
        return self.out(y.transpose(0, 1)[:, -1])  # type: ignore[no-any-return]


class Columns(nn.Module):
    """Slices its input for two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.cat([self.a(x[:, :2]), self.b(x[:, 2:])], 1))  # type: ignore[no-any-return]


class Scaled(nn.Module):
    """Standardizes by buffers, and scales by a weight that is learned."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((6,), 0.5))
        self.register_buffer("mean", torch.ones(6))
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu((x - self.mean) * self.gain))  # type: ignore[no-any-return]


@leaf
class JoinsInside(nn.Module):
    """A leaf with weights that passes its input on beside what it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.linear(x), x], 1)


def chain(*first: nn.Module, width: int = 6) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*first, nn.Linear(width, 4), nn.ReLU(), nn.Linear(4, 3))


def spec_of(model: nn.Module, *, role: str = "private") -> ModelSpec:
    inputs = {"x": Input(dtype=torch.float32, shape=(6,), role=role)}  # type: ignore[arg-type]
    return ModelSpec(name="given", inputs=inputs, num_classes=3, seed=0, given=GivenModel(model))


@pytest.mark.parametrize(
    ("build", "private"),
    [
        (Joined, []),
        (Residual, ["add"]),
        (Recurrent, ["transpose#2", "getitem#3"]),
        (Columns, ["b", "cat"]),
        (Scaled, []),
        (chain(), ["0", "1"]),
        (chain(nn.Flatten()), ["1", "2"]),
        (chain(nn.BatchNorm1d(6)), ["1", "2"]),
        (chain(nn.LayerNorm(6), nn.PReLU()), ["2", "3"]),
        (chain(nn.Dropout(0.5), nn.Hardtanh()), ["2", "3"]),
        (chain(JoinsInside(), width=10), ["1", "2"]),
    ],
)
def test_cuts_behind_which_the_inputs_stay_private(build: Callable[[], nn.Module], private: list[str]) -> None:
    """A model concatenated its input to a late layer, and the first tensor to cross was the sample itself; so it was
    with flatten, a transpose, slices or a normalization in front, and nothing said so."""
    spec = spec_of(build())
    assert [point.name for point in spec.cut_points() if not spec.sent_inputs(point.name)] == private


def test_the_values_that_cross_are_named() -> None:
    spec = spec_of(Joined())
    assert [spec.sent_inputs(cut) for cut in (0, "b", "mul", "cat")] == [("x",), ("x",), ("mul",), ("cat",)]
    assert spec_of(Joined(), role="side").sent_inputs("b") == ()


@pytest.mark.parametrize(
    ("build", "first"),
    [(Joined, None), (Residual, 3), (Columns, 4), (chain(), 1), (chain(nn.Flatten(), nn.Hardtanh()), 3)],
)
def test_the_first_private_cut(build: Callable[[], nn.Module], first: int | None) -> None:
    assert spec_of(build()).first_private_cut() == first


def test_whole_numbers_are_inputs_too() -> None:
    """Tokens that are only cast cross as they are; an embedding hides them. A model that takes one token only cannot be
    tried with others, so what is computed from its tokens without weights counts as raw."""

    class Tokens(nn.Module):
        def __init__(self, vocabulary: int) -> None:
            super().__init__()
            self.embedding, self.out = nn.Embedding(vocabulary, 4), nn.Linear(10, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.cat([self.embedding(x).mean(1), x.float()], 1))  # type: ignore[no-any-return]

    for vocabulary in (7, 1):
        inputs = {"x": Input(dtype=torch.int64, shape=(6,))}
        spec = ModelSpec(name="tokens", inputs=inputs, num_classes=3, seed=0, given=GivenModel(Tokens(vocabulary)))
        assert {point.name: spec.sent_inputs(point.name) for point in spec.cut_points()} == {
            "float": ("float",),
            "cat": ("cat",),
        }
