"""The backward pass from given gradients."""

from __future__ import annotations

import pytest
import torch

from raysplit.models.backward import backward


def network() -> tuple[torch.Tensor, list[torch.Tensor], list[torch.nn.Parameter]]:
    torch.manual_seed(0)
    first, second, third = torch.nn.Conv2d(2, 3, 3), torch.nn.Linear(7, 5), torch.nn.Linear(7, 5)
    x = torch.randn(4, 2, 9, 9, requires_grad=True)
    hidden = torch.relu(first(x))
    outputs = [second(hidden), third(hidden).transpose(1, 2), hidden]  # of which one is on the way to the others
    return x, outputs, [*first.parameters(), *second.parameters(), *third.parameters()]


def test_gradients_are_those_of_torch_to_the_bit() -> None:
    found = []
    for pull in (torch.autograd.backward, backward):
        x, outputs, weights = network()
        given = [torch.randn(z.shape, generator=torch.Generator().manual_seed(i)) for i, z in enumerate(outputs)]
        pull(outputs, given)
        found.append([x.grad, *(weight.grad for weight in weights), *given])
    assert all(torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(*found, strict=True))


def test_given_gradients_are_added_and_not_written() -> None:
    w = torch.ones(3, requires_grad=True)
    g = torch.tensor([1.0, -0.0, 2.0])
    for _ in range(2):
        backward([w * 1], [g])
    assert w.grad is not None
    assert (w.grad.tolist(), g.tolist()) == ([2.0, 0.0, 4.0], [1.0, 0.0, 2.0])


def test_bfloat16_keeps_its_type() -> None:
    z = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    backward([z * 2], [torch.full((2,), 3.0, dtype=torch.bfloat16)])
    assert z.grad is not None
    assert (z.grad.dtype, z.grad.tolist()) == (torch.bfloat16, [6.0, 6.0])


def test_a_gradient_of_another_shape_is_refused() -> None:
    """Autograd alone would add up the rows of a gradient that is too large, without a word."""
    with pytest.raises(RuntimeError, match=r"has shape \(2, 3\) and its output has shape \(3,\)"):
        backward([torch.ones(3, requires_grad=True) * 1], [torch.ones(2, 3)])
