"""A model cut anywhere and trained by hand across the cuts is bitwise the uncut model: output, weights, buffers."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysplit.models.cutting.dropout import SeededDropout, dropout_stream
from raysplit.models.cutting.split import TracedModel, merge, trace
from raysplit.models.zoo import build_model

SMALL = {
    "mlp": (1, 8, 8),
    "mlp_small": (1, 28, 28),
    "mlp_28": (1, 28, 28),
    "cnn8": (1, 8, 8),
    "cnn": (1, 28, 28),
    "cnn4": (1, 28, 28),
    "cnn_cifar": (3, 16, 16),
}
BIG = ["resnet18_cifar", "resnet101_mpsl", "resnet18", "resnet50", "mobilenet_v3_small", "efficientnet_b0"]
HUGE = ["vgg19_mpsl", "vgg11"]  # above 128 million weights: all points are cut at once


def inputs(*sample_shape: int, batch_size: int = 2) -> Tensor:
    return torch.randn(batch_size, *sample_shape, generator=torch.Generator().manual_seed(1))


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def zoo(name: str, input_shape: tuple[int, ...]) -> nn.Module:
    return seeded(lambda: build_model(name, input_shape=input_shape, num_classes=10))


def as_tuple(value: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


def gradient_for(output: Tensor) -> Tensor:
    return torch.randn(output.shape, generator=torch.Generator().manual_seed(2), dtype=output.dtype)


def step(parts: Sequence[nn.Module], x: Tensor) -> Tensor:
    """One step of SGD, with an optimiser for each part; returns the (first) output."""
    optimisers = [torch.optim.SGD(w, lr=0.001) for w in ([*p.parameters()] for p in parts) if w]
    for optimiser in optimisers:
        optimiser.zero_grad()
    output = forward_backward(parts, x)
    for optimiser in optimisers:
        optimiser.step()
    return output


def forward_backward(parts: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Between parts only detached tensors and their gradients pass; returns the (first) output."""
    received: list[tuple[Tensor, ...]] = []
    sent: list[tuple[Tensor, ...]] = []
    for part in parts:
        arriving = (x,) if not sent else tuple(z.detach().requires_grad_() for z in sent[-1])
        before = [z.detach().clone() for z in arriving]
        sent.append(as_tuple(part(*arriving)))
        received.append(arriving)
        for z, old in zip(arriving, before, strict=True):
            assert torch.equal(z.detach(), old), "a part wrote to what it received"
    gradients: list[Tensor | None] = [gradient_for(output) for output in sent[-1]]
    for arriving, leaving in zip(reversed(received), reversed(sent), strict=True):
        used = [(z, g) for z, g in zip(leaving, gradients, strict=True) if z.requires_grad and g is not None]
        torch.autograd.backward([z for z, _ in used], [g for _, g in used])
        gradients = [z.grad for z in arriving]
    return sent[-1][0].detach()


def assert_same_state(parts: Sequence[nn.Module], model: nn.Module, like: nn.Module) -> None:
    merged = merge([part.state_dict() for part in parts], like=like)
    assert list(merged) == list(like.state_dict())
    assert merged.keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(merged[key], value), key


class Checker:
    """Compares cuts of one model with two steps of the model itself, or of its one part if it draws dropout masks."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        self.x = x
        self.original = model
        self.traced: TracedModel = trace(model, x)
        (whole,) = self.traced.copy().cut([])
        draws = any(isinstance(module, SeededDropout) for module in whole.modules())
        self.model = whole if draws else copy.deepcopy(model)
        self.outputs = [self.run([self.model], number) for number in range(2)]
        self.eval_output = copy.deepcopy(self.model).eval()(x)

    def run(self, parts: Sequence[nn.Module], number: int) -> Tensor:
        with dropout_stream(number):
            return step(parts, self.x)

    def check(self, cuts: Sequence[int | str]) -> None:
        parts = self.traced.copy().cut(cuts)
        assert len(parts) == len(cuts) + 1
        for number, expected in enumerate(self.outputs):
            assert torch.equal(self.run(parts, number), expected)
            assert expected.isfinite().all()
        assert_same_state(parts, self.model, self.original)
        z = (self.x,)
        for part in parts:
            z = as_tuple(part.eval()(*z))
        for mine, expected in zip(z, as_tuple(self.eval_output), strict=True):
            assert torch.allclose(mine, expected, rtol=0, atol=0, equal_nan=True)

    def names(self) -> list[str]:
        return [point.name for point in self.traced.cut_points]


def assert_same_gradients(name: str) -> None:
    """Without a copy of the weights or a step, for models whose weights are most of the work."""
    model, x = zoo(name, (3, 32, 32)), inputs(3, 32, 32, batch_size=1)
    traced = trace(model, x)
    outputs, gradients = [], []
    for cuts in ([], [point.name for point in traced.cut_points]):
        parts = traced.cut(cuts)
        with dropout_stream(0):
            outputs.append(forward_backward(parts, x))
        gradients.append({key: w.grad for part in parts for key, w in part.named_parameters()})
        for w in model.parameters():
            w.grad = None
    assert torch.equal(*outputs)
    assert gradients[0].keys() == gradients[1].keys() == dict(model.named_parameters()).keys()
    for key, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][key]), key


def sample(names: Sequence[str], num: int) -> list[str]:
    """Evenly spread, the first and the last included."""
    return [names[round(i * (len(names) - 1) / (num - 1))] for i in range(num)]


@pytest.mark.parametrize("name", SMALL)
def test_small_zoo_model_cut_at_every_point(name: str) -> None:
    checker = Checker(zoo(name, SMALL[name]), inputs(*SMALL[name]))
    for cut in checker.names():
        checker.check([cut])


@pytest.mark.parametrize("name", ["resnet18_cifar", "mobilenet_v3_small"])
def test_big_zoo_model_cut_at_some_points(name: str) -> None:
    checker = Checker(zoo(name, (3, 32, 32)), inputs(3, 32, 32))
    for cut in sample(checker.names(), 5):
        checker.check([cut])
    checker.check(sample(checker.names(), 9))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", BIG)
def test_big_zoo_model_cut_at_every_point(name: str) -> None:
    checker = Checker(zoo(name, (3, 32, 32)), inputs(3, 32, 32))
    for cut in checker.names():
        checker.check([cut])


@pytest.mark.slow
@pytest.mark.parametrize("name", HUGE)
def test_huge_zoo_model_cut_at_every_point_at_once(name: str) -> None:
    assert_same_gradients(name)


def test_group_norm_variant() -> None:
    model = seeded(lambda: build_model("resnet18_cifar", input_shape=(1, 8, 8), num_classes=3, norm="group"))
    Checker(model, inputs(1, 8, 8)).check([1, 2, 3, 4])


@pytest.mark.parametrize("cuts", [[], [0], [5], [0, 5], [0, 0], [2, 2], [1, 3], [1, 2, 3, 4], [0, 1, 1, 5, 5]], ids=str)
def test_several_and_degenerate_cuts(cuts: list[int]) -> None:
    checker = Checker(zoo("cnn_cifar", (3, 16, 16)), inputs(3, 16, 16))
    checker.check(cuts)


class WritesInPlace(nn.Module):
    """Every spelling of an in-place write, most of them right behind a possible cut."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Linear(6, 6)
        self.third = nn.Linear(6, 6)
        self.fourth = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(self.act(self.first(x)))
        h += 0.5
        self.act(h)  # the result is not used, h itself is
        h = operator.imul(self.second(h), 1.5)
        h.add_(1.0)  # the result is not used, h itself is
        F.relu(h, inplace=True)
        h = self.third(h)
        torch.relu_(h)
        h = self.fourth(h)
        h.clamp_(max=2.0).mul_(2.0)
        return h


class ReadsSizes(nn.Module):
    """Sizes taken at the top are used at the bottom; the input crosses every cut as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.conv2 = nn.Conv2d(3, 3, 3, padding=1)
        self.linear = nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        batch_size, shape, device = x.size(0), x.shape, x.device
        h = torch.relu(self.conv(x))
        h = self.conv2(h) + x.mean(1, keepdim=True) + torch.ones(1, device=device)
        h = h.reshape(batch_size, 3, shape[2], shape[3])
        return self.linear(h.view(batch_size, -1))


class OwnParameters(nn.Module):
    """Parameters, buffers and constants used without a module of their own; two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6))
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("offset", torch.ones(4), persistent=False)
        self.constant = torch.full((4,), 0.25)
        self.last = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.linear(x, self.weight) * self.scale + self.offset
        self.steps.add_(1)
        h = self.last(h + self.constant)
        return h * torch.tensor([1.0, 2.0, 3.0, 4.0]), h


@pytest.mark.parametrize(
    ("build", "sample_shape"),
    [(WritesInPlace, (6,)), (ReadsSizes, (2, 4, 4)), (OwnParameters, (6,))],
    ids=["writes in place", "reads sizes", "own parameters"],
)
def test_awkward_model_cut_at_every_point(build: Callable[[], nn.Module], sample_shape: tuple[int, ...]) -> None:
    checker = Checker(seeded(build), inputs(*sample_shape))
    assert len(checker.names()) >= 5
    for cut in checker.names():
        checker.check([cut])
    checker.check(checker.names())


def test_sizes_follow_the_batch_not_the_example() -> None:
    model = seeded(ReadsSizes)
    traced = trace(model, inputs(2, 4, 4))
    x = inputs(2, 4, 4, batch_size=5)
    for point in traced.cut_points:
        first, last = traced.cut([point.name])
        assert torch.equal(last(*as_tuple(first(x))), model(x))


def test_parts_and_model_share_weights_but_copies_do_not() -> None:
    model = zoo("mlp", (1, 8, 8))
    traced = trace(model, inputs(1, 8, 8))
    first, _ = traced.cut([1])
    with torch.no_grad():
        next(first.parameters()).fill_(3.0)
    assert next(model.parameters()).eq(3.0).all()
    (copied,) = traced.copy().cut([])
    with torch.no_grad():
        next(copied.parameters()).fill_(4.0)
    assert next(model.parameters()).eq(3.0).all()


def test_frozen_and_evaluation_modes_carry_over() -> None:
    model = seeded(partial(build_model, "resnet18_cifar", input_shape=(3, 8, 8), num_classes=3))
    model.get_submodule("stage2").eval()
    checker = Checker(model, inputs(3, 8, 8))
    assert checker.model.get_buffer("stage1.stem.norm.num_batches_tracked") == 2
    assert checker.model.get_buffer("stage2.block1.norm1.num_batches_tracked") == 0
    checker.check(["stage2.block1.conv1"])
