"""Gradients that return over a cut lie in memory as in the uncut model, because kernels differ by memory order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import same
from support import train as train_run
from torch import Tensor, nn

from raysplit.actors.parts.joint_step import JointRule, joint_gradients
from raysplit.actors.parts.leaves import as_tuple
from raysplit.actors.parts.losses import mse
from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.actors.parts.part import TrainablePart
from raysplit.cluster.links.tensors import opened, sealed
from raysplit.models.cutting.split import trace

SGD = OptimizerSpec()
Y = torch.zeros(3, 5, 24)


class Mixer(nn.Module):
    """Layers over tokens and over channels in turn, with a transposed view between them (arXiv 2105.01601)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.tokens, self.channels = nn.Linear(10, 24), nn.Linear(7, 5), nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)  # [B, T, D]
        h = self.tokens(h.transpose(1, 2))  # [B, D, T']
        return self.channels(torch.relu(h).transpose(1, 2))  # type: ignore[no-any-return]


def parts_at(cut: str | None) -> list[TrainablePart]:
    torch.manual_seed(0)
    modules = trace(Mixer(), torch.ones(1, 7, 10)).cut([] if cut is None else [cut])
    return [TrainablePart(module, SGD, input_gradients=index > 0) for index, module in enumerate(modules)]


def gradients_of(parts: list[TrainablePart]) -> dict[str, Tensor]:
    return {name: p.grad for part in parts for name, p in part.module.named_parameters() if p.grad is not None}


def trained(cut: str | None, x: Tensor, *, joint: bool = False) -> tuple[dict[str, Tensor], Any]:
    """The gradients of all weights, and the gradient that crosses, by the calls that parties make, over a link."""
    parts = parts_at(cut)
    if cut is None:
        parts[0].loss_gradient(x, Y, mse, stream=0)
        return gradients_of(parts), None
    z = opened(sealed("owner", parts[0].forward(x, stream=0))).value
    if joint:
        (g,) = joint_gradients(parts[1], [z], [Y], mse, JointRule(), stream=0).gradients
    else:
        _, g = parts[1].loss_gradient(z, Y, mse, stream=0)
    g = opened(sealed("server", g)).value
    parts[0].backward(g)
    return gradients_of(parts), g


CUTS = [point.name for point in trace(Mixer(), torch.ones(1, 7, 10)).cut_points]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("joint", [False, True])
def test_a_cut_at_a_transposed_view_changes_no_bit(cut: str, joint: bool) -> None:
    """The last bits of gradients depended on where a model with transposed views was cut: ``.grad`` lays a gradient out
    like the tensor that crosses, and the uncut model does not."""
    x = torch.randn(3, 7, 10, generator=torch.Generator().manual_seed(3))
    whole, _ = trained(None, x)
    split, _ = trained(cut, x, joint=joint)
    assert whole.keys() == split.keys()
    assert all(torch.equal(whole[name], split[name]) for name in whole)


@pytest.mark.parametrize("cut", CUTS)
def test_the_gradient_keeps_its_strides(cut: str) -> None:
    seen: list[Tensor] = []
    x = torch.randn(3, 7, 10, generator=torch.Generator().manual_seed(3))
    first, last = trace(Mixer(), torch.ones(1, 7, 10)).cut([cut])
    z = first(x)
    z.register_hook(seen.append)
    mse(last(z), Y).backward()
    _, g = trained(cut, x)
    assert [value.stride() for value in as_tuple(g)] == [seen[0].stride()]


def test_some_gradient_lies_otherwise_than_its_tensor() -> None:
    """Without such a cut the two tests above would show nothing."""
    x = torch.ones(3, 7, 10)
    strides = {cut: (trained(cut, x)[1].stride(), parts_at(cut)[0].forward(x, stream=0).stride()) for cut in CUTS}  # type: ignore[union-attr]
    assert [cut for cut, (g, z) in strides.items() if g != z]


def transposing(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return _Wide(input_shape[0], num_classes)


class _Wide(nn.Module):
    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.first, self.mix, self.out = nn.Linear(1, 6), nn.Linear(width, 4), nn.Linear(24, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x.unsqueeze(2)).transpose(1, 2)
        return self.out(torch.relu(self.mix(h)).transpose(1, 2).flatten(1))  # type: ignore[no-any-return]


def test_split_runs_are_the_whole_run_at_transposed_views() -> None:
    model = {"name": "unit.actors.test_memory_order:transposing"}
    changes: dict[str, Any] = {"model": model, "partition__num_owners": 1, "training__rounds": 1}
    central = train_run(algorithm={"name": "centralised"}, **changes)
    for cut in ("first", "transpose#1", "transpose#2"):
        assert same(train_run(algorithm={"name": "minibatch_sfl", "cut": cut}, **changes), central)
