"""Every optimizer that is offered trains a part; the others are refused when the configuration is read."""

from __future__ import annotations

import pytest
import torch

from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.config.errors import ConfigError
from raysplit.config.run import check_config
from raysplit.models.optimizer_step import use_up_gradients

NAMES = sorted(
    name.lower()
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
)


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_takes_steps_or_is_refused(name: str) -> None:
    """LBFGS failed in the first step of an owner: it wants to compute the loss by itself."""
    if name in ("lbfgs", "sparseadam", "muon"):
        with pytest.raises(ConfigError, match=r"training\.optimizer: optimizer .* cannot .*; use one of adadelta, "):
            check_config({"training": {"optimizer": {"name": name}}})
        return
    spec = OptimizerSpec(name=name, lr=0.1)
    layer = torch.nn.Linear(3, 2)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    optimizer = spec.build(layer.parameters())
    assert optimizer is not None
    for _ in range(2):
        layer(torch.ones(4, 3)).square().mean().backward()
        use_up_gradients(optimizer)
    assert not any(torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))


def test_what_is_not_offered_is_not_listed() -> None:
    with pytest.raises(ConfigError, match="did you mean 'adam'") as caught:
        check_config({"training": {"optimizer": {"name": "adan"}}})
    assert "lbfgs" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("sgd", {"momentum": 1.5}, "momentum of the optimizer sgd must be at least 0 and less than 1, got 1.5"),
        ("sgd", {"momentum": -0.1}, "must be at least 0 and less than 1, got -0.1"),
        ("sgd", {"momentum": 0.9, "dampening": 3}, "dampening of the optimizer sgd must be between 0 and 1, got 3"),
        ("rmsprop", {"alpha": 2}, "alpha of the optimizer rmsprop must be at least 0 and less than 1, got 2"),
        ("adamw", {"weight_decay": -1}, "weight_decay of the optimizer adamw must be at least 0, got -1"),
        ("adam", {"eps": -1e-8}, "eps of the optimizer adam must be at least 0, got -1e-08"),
        ("adam", {"betas": [1.5, 0.9]}, "cannot take a step|Invalid beta"),
        ("sgd", {"momentum": float("nan")}, "momentum: must be a finite number"),
    ],
)
def test_numbers_that_grow_from_step_to_step_are_refused(name: str, options: dict[str, object], words: str) -> None:
    """A momentum of 1.5 was taken, and trained until the loss was no number."""
    with pytest.raises(ValueError, match=words):
        OptimizerSpec(name=name, lr=0.1, options=options)


@pytest.mark.parametrize("options", [{"momentum": "much"}, {"nesterov": True}, {"betas": [1, 2]}])
def test_options_with_which_no_step_can_be_taken_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"training\.optimizer"):
        check_config({"training": {"optimizer": {"name": "sgd", **options}}})
