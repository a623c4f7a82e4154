"""Number types and recomputation: split = unsplit in bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dropout_net import NET, SPLIT, run
from support import distance, same, settings, weights
from torch import Tensor, nn

from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.actors.parts.part import TrainablePart
from raysplit.actors.steps.rules import StepRules
from raysplit.config.errors import ConfigError
from raysplit.config.run import check_config
from raysplit.models.spec import ModelSpec

ME = "unit.actors.steps.test_passes"


@pytest.mark.parametrize("algorithm", SPLIT[:2])
def test_parts_in_bfloat16_are_the_model_in_bfloat16(algorithm: dict[str, Any]) -> None:
    whole = run({"name": "fedavg"}, model={"precision": "bf16"})
    split = run(algorithm, model={"precision": "bf16"})
    assert same(split, whole)
    assert 1e-5 < distance(whole, run({"name": "fedavg"})) < 0.1
    assert {value.dtype for value in weights(whole).values()} == {torch.float32}
    assert abs(whole.rows[0]["train_loss"] / run({"name": "fedavg"}).rows[0]["train_loss"] - 1) < 1e-2


def test_what_crosses_has_the_type_that_the_operator_before_the_cut_returns() -> None:
    """Behind a linear layer that is bfloat16, half the bytes; behind a sigmoid of the inputs it is float32."""
    spec = ModelSpec(name=f"{ME}:gated", input_shape=(10,), num_classes=5, seed=0)
    rules = StepRules(precision="bf16")
    crossing = []
    for cut in (1, 2):
        part = TrainablePart(spec.parts((cut,))[0], OptimizerSpec(), rules=rules)
        crossing.append(part.forward(torch.zeros(2, 10), stream=0))
    assert [z.dtype for z in crossing if isinstance(z, Tensor)] == [torch.float32, torch.bfloat16]


def gated(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Sigmoid(), nn.Linear(10, 4), nn.Linear(4, num_classes))


def test_bfloat16_beside_float64_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision is bf16 and dtype is float64"):
        check_config(settings(model__precision="bf16"))


@pytest.mark.parametrize("algorithm", [{"name": "fedavg"}, SPLIT[0], {"name": "minibatch_sfl", "cut": 3}])
@pytest.mark.parametrize("norm", [False, True])
def test_what_is_computed_again_is_the_same_with_dropout_and_running_statistics(
    algorithm: dict[str, Any], norm: bool
) -> None:
    model = {"norm": norm}
    assert same(run(algorithm, model={**model, "recompute": True}), run(algorithm, model=model))


def noisy(num_classes: int) -> nn.Module:
    return Noisy(num_classes)


class Noisy(nn.Module):
    """Draws from torch's global stream."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(10, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x + torch.randn_like(x))
        return y


def test_what_is_computed_again_draws_the_same() -> None:
    model = {"name": f"{ME}:noisy"}
    assert same(run({"name": "fedavg"}, model={**model, "recompute": True}), run({"name": "fedavg"}, model=model))


def test_a_part_that_computes_again_keeps_its_inputs_alone() -> None:
    spec = ModelSpec(name=NET, input_shape=(10,), num_classes=5, seed=0)
    saved: list[list[Tensor]] = []
    for recompute in (False, True):
        part, kept = TrainablePart(spec.parts(())[0], OptimizerSpec(), rules=StepRules(recompute=recompute)), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t) or t, lambda t: t):
            part.forward(torch.zeros(2, 10), stream=0)
        saved.append(kept)
    assert len(saved[1]) < len(saved[0])
