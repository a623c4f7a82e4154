"""The update of a part against ``optimizer.step()`` and ``zero_grad()``, for everything an optimiser may be asked."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.models.optimizer_step import use_up_gradients, without_compiler

CASES: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.9, "weight_decay": 1e-2}),
    ("sgd", {"momentum": 0.9, "nesterov": True}),
    ("sgd", {"momentum": 0.9, "fused": True}),
    ("sgd", {"foreach": True, "maximize": True}),
    ("adam", {"amsgrad": True}),
    ("adamw", {"weight_decay": 1e-2}),
    ("adamax", {}),
    ("adadelta", {}),
    ("adagrad", {"lr_decay": 0.1}),
    ("asgd", {}),
    ("nadam", {}),
    ("radam", {}),
    ("rmsprop", {"momentum": 0.5, "centered": True}),
    ("rprop", {}),
]


def trained(spec: OptimizerSpec, *, by_torch: bool, steps: int = 6) -> list[Tensor]:
    """The weights after steps with drawn gradients, the learning rate changing and one weight without gradient."""
    gen = torch.Generator().manual_seed(3)
    weights = [torch.randn(shape, generator=gen).requires_grad_() for shape in [(7,), (4, 5), (33, 3), (2,)]]
    optimizer = spec.build(weights)
    assert optimizer is not None
    for step in range(steps):
        for weight in weights[:-1]:
            weight.grad = torch.randn(weight.shape, generator=gen)
        for group in optimizer.param_groups:
            group["lr"] = spec.lr / (1 + step)
        if by_torch:
            optimizer.step()
            optimizer.zero_grad()
        else:
            use_up_gradients(optimizer)
        assert all(weight.grad is None for weight in weights)
    return [weight.detach() for weight in weights]


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda value: str(value))
def test_an_update_is_what_torch_makes_of_it(name: str, options: dict[str, Any]) -> None:
    spec = OptimizerSpec(name=name, lr=0.05, options=options)
    mine, torchs = trained(spec, by_torch=False), trained(spec, by_torch=True)
    assert all(torch.equal(a, b) for a, b in zip(mine, torchs, strict=True))
    start = trained(spec, by_torch=True, steps=0)
    assert not torch.equal(mine[0], start[0])
    assert torch.equal(mine[-1], start[-1])  # the weight that had no gradient


def test_torch_is_left_as_it_was_where_an_optimizer_was_built_without_the_compiler() -> None:
    code = """
import sys, torch
from raysplit.models.optimizer_step import without_compiler
weight = torch.ones(2, requires_grad=True)
with without_compiler():
    kept = torch.optim.Adam([weight], lr=0.5).state_dict()
    torch.optim.Adam([weight]).load_state_dict(kept)
assert "torch._dynamo" not in sys.modules
assert not any("__dynamo_disable" in vars(getattr(torch.optim.Optimizer, name).__wrapped__)
               for name in ("add_param_group", "state_dict", "load_state_dict"))
assert kept == torch.optim.Adam([weight], lr=0.5).state_dict()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_where_the_compiler_is_there_nothing_changes() -> None:
    import torch._dynamo  # as a program has it that compiles

    with without_compiler():
        assert getattr(torch.optim.Optimizer.state_dict.__wrapped__, "__dynamo_disable", None) is not (  # type: ignore[attr-defined]
            torch.optim.Optimizer.state_dict.__wrapped__  # type: ignore[attr-defined]
        )
