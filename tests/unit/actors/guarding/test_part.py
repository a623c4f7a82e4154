"""DP-SGD: gradients of single samples are those of autograd, and without clip and noise training is what it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from guarded import guarded
from support import distance
from torch import Tensor, nn

from raysplit.actors.guarding.correlation import correlation
from raysplit.actors.guarding.part import GuardedPart, PartGuards, with_sample_gradients
from raysplit.actors.parts.losses import cross_entropy
from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.guards.rules import WeightNoise
from raysplit.models.spec import ModelSpec

PARTS: list[tuple[str, tuple[int, ...], int]] = [
    ("mlp", (784,), 1),
    ("mlp_small", (784,), 1),
    ("mlp_28", (1, 28, 28), 1),
    ("cnn8", (1, 8, 8), 2),
    ("cnn", (1, 28, 28), 2),
    ("cnn4", (1, 28, 28), 2),
    ("cnn_cifar", (3, 32, 32), 2),
]
ROWS = 3
OFF = WeightNoise(clip=float("inf"), noise=0)


def part_of(name: str, shape: tuple[int, ...], cut: int) -> nn.Module:
    return ModelSpec(name=name, input_shape=shape, num_classes=10, seed=0).parts((cut,))[0]


@pytest.mark.parametrize(("name", "shape", "cut"), PARTS, ids=[name for name, *_ in PARTS])
def test_gradients_of_samples_are_those_of_autograd(name: str, shape: tuple[int, ...], cut: int) -> None:
    plain, hooked = part_of(name, shape, cut), part_of(name, shape, cut)
    with_sample_gradients(hooked)
    x = torch.randn(ROWS, *shape, generator=torch.Generator().manual_seed(1))
    g = torch.randn(plain(x).shape, generator=torch.Generator().manual_seed(2))
    own = [torch.autograd.grad(plain(x[i : i + 1]), list(plain.parameters()), g[i : i + 1]) for i in range(ROWS)]
    with pytest.warns(UserWarning, match="Full backward hook"):
        torch.autograd.backward([hooked(x)], [g])
    for j, parameter in enumerate(hooked.parameters()):
        rows: Any = parameter.grad_sample  # type: ignore[attr-defined]
        assert rows.shape == (ROWS, *parameter.shape)
        for i in range(ROWS):
            assert torch.allclose(rows[i], own[i][j], rtol=1e-4, atol=1e-5 * float(own[i][j].abs().max()))


def guarded_part(rules: WeightNoise, lr: float = 1.0) -> GuardedPart:
    part = GuardedPart(
        part_of("cnn8", (1, 8, 8), 2), OptimizerSpec(lr=lr), input_gradients=False, guards=PartGuards(weights=rules)
    )
    part.noise = lambda sigma, size: torch.full((size,), sigma, dtype=torch.float64)
    return part


def stepped(part: GuardedPart, g: Tensor) -> Tensor:
    before = torch.cat([p.detach().flatten() for p in part.module.parameters()])
    x = torch.randn(ROWS, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    part.forward(x, stream=0)
    part.backward(g)
    part.step()
    return before - torch.cat([p.detach().flatten() for p in part.module.parameters()])


def gradient(scale: float = 1.0) -> Tensor:
    shape = part_of("cnn8", (1, 8, 8), 2)(torch.zeros(ROWS, 1, 8, 8)).shape
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)) * scale / ROWS


def test_clipped_update_is_at_most_the_clip_and_does_not_grow_with_the_gradient() -> None:
    small, large = (
        stepped(guarded_part(WeightNoise(clip=0.5, noise=0)), gradient()),
        stepped(guarded_part(WeightNoise(clip=0.5, noise=0)), gradient(1000.0)),
    )
    assert float(large.norm()) <= 0.5 * (1 + 1e-6)
    assert torch.allclose(small, large, rtol=1e-4, atol=1e-7)  # both are clipped, in the same directions


def test_noise_is_divided_by_the_batch() -> None:
    quiet = stepped(guarded_part(WeightNoise(clip=0.5, noise=0)), gradient())
    noisy = stepped(guarded_part(WeightNoise(clip=0.5, noise=2.0)), gradient())
    assert torch.allclose(noisy - quiet, torch.full_like(quiet, 2.0 * 0.5 / ROWS), atol=1e-6)


def test_batch_norm_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"has batch norm .* use group norm"):
        with_sample_gradients(part_of("resnet18_cifar", (3, 32, 32), 3))


@pytest.mark.parametrize(
    "algorithm",
    [
        {"name": "splitnn", "cut": 1},
        {"name": "splitfed_v1", "cut": 2},
        {"name": "minibatch_sfl", "cut": 1},
        {"name": "mtsl", "cut": 1},
        {"name": "mpsl", "cuts": [1, 2]},
        {"name": "fedavg"},
        {"name": "fedprox", "proximal_mu": 0.3},
    ],
    ids=lambda options: options["name"],
)
def test_without_clip_and_noise_training_is_what_it_was(algorithm: dict[str, Any]) -> None:
    changes = {"algorithm": algorithm, "training": {"rounds": 2, "optimizer": {"lr": 0.1, "momentum": 0.9}}}
    plain = guarded(**changes)
    private = guarded(**changes, privacy={"weights": {"clip": float("inf"), "noise": 0}})
    for label in plain.states:
        assert distance(private.states[label], plain.states[label]) < 1e-6


def test_scale_of_gradients_in_a_joint_step_changes_nothing() -> None:
    """Clipping makes the same of both; their noise would differ, since every setting has its own."""

    def run(scale: str) -> Any:
        return guarded(
            algorithm={"name": "minibatch_sfl", "cut": 1, "client_grad_scale": scale},
            privacy={"weights": {"clip": 0.1, "noise": 0.0}, "rehearsal": True},
        )

    assert distance(run("giant"), run("per_client_mean")) < 1e-6


def test_correlation_of_one_with_itself_is_one() -> None:
    x = torch.randn(20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(correlation(x, 3 * x + 1)) == pytest.approx(1)
    assert float(correlation(x, torch.ones(20, 2))) < 1e-4
    line = torch.arange(-2.0, 3.0)[:, None].double()
    assert float(correlation(line, line**2)) < 1e-4  # squared -1/sqrt 6, clamped


def test_nopeek_is_the_gradient_of_its_loss() -> None:
    alpha = 0.3
    part = GuardedPart(
        part_of("cnn8", (1, 8, 8), 2), OptimizerSpec(lr=1.0), input_gradients=False, guards=PartGuards(nopeek=alpha)
    )
    plain = part_of("cnn8", (1, 8, 8), 2)
    x = torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    tail = nn.Linear(plain(x).flatten(1).shape[1], 10)
    y = torch.arange(12) % 10
    z = part.forward(x, stream=0)
    assert isinstance(z, Tensor)
    leaf = z.clone().requires_grad_()
    cross_entropy(tail(leaf.flatten(1)), y).backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    part.backward(leaf.grad)
    own = plain(x)
    loss = (1 - alpha) * cross_entropy(tail(own.flatten(1)), y) + alpha * correlation(x, own)
    expected = torch.autograd.grad(loss, list(plain.parameters()))
    for parameter, wanted in zip(part.module.parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, wanted.float(), rtol=1e-3, atol=1e-6)
