"""What a user's own loss returns is checked where it comes in."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from raysplit.actors.parts.own_loss import own_loss


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda o, y: None, r"returned None \(NoneType\); it must return one number as a tensor"),
        (lambda o, y: 0.5, r"returned 0\.5 \(float\)"),
        (lambda o, y: (o - y).abs(), r"returned a tensor of shape \(3,\); .*such as \.mean\(\)"),
        (lambda o, y: torch.tensor(1.0), "returned a number that does not depend on the outputs"),
        (lambda o: o, "failed: TypeError"),
        (lambda o, y: {}["far"], r"failed: KeyError: 'far' \(test_own_loss\.py, line \d+\)"),
    ],
)
def test_a_loss_that_is_none_is_named(function: Any, message: str) -> None:
    """Such losses ended in AttributeError or in torch's own words about scalars, without the name of the loss."""
    with pytest.raises(ValueError, match=f"loss 'mine:f' {message}"):
        own_loss("mine:f", function)(torch.zeros(3, requires_grad=True), torch.ones(3))


def test_a_loss_passes_as_it_is() -> None:
    outputs = torch.zeros(3, requires_grad=True)
    assert own_loss("mine:f", torch.nn.functional.l1_loss)(outputs, torch.ones(3)).item() == 1
    with torch.no_grad():
        assert float(own_loss("mine:f", lambda o, y: (o - y).abs().sum())(outputs, torch.ones(3))) == 3
