"""Weights and layers that cannot be tuned as asked."""

from __future__ import annotations

from typing import Any

import pytest
from small_transformer import Block, run
from support import settings
from torch import Tensor, nn

from raysplit.config.errors import ConfigError
from raysplit.config.run import check_config
from raysplit.models.adapters.lora import LoraRules, adapters_of
from raysplit.models.adapters.tuning import Tuning

ME = "unit.models.adapters.test_refused_tuning"


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.middle, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9, bias=False)
        self.head.weight = self.embed.weight


class Torchs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(4, 2, 8)


@pytest.mark.parametrize(
    ("model", "targets", "message"),
    [
        (Block, ("nothing",), "no module of the model is called so"),
        (Block, ("norm",), "it is a LayerNorm"),
        (Tied, ("head",), "tied to 'embed.weight'"),
        (Torchs, ("linear1",), "uses its weight without calling it"),
    ],
)
def test_layers_that_cannot_be_adapted_are_refused(model: Any, targets: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tuning(lora=LoraRules(targets=targets)).applied(model(8, 0.1) if model is Block else model(), 0)


def test_an_adapter_that_the_model_never_calls_is_refused() -> None:
    with pytest.raises(ValueError, match="never calls 'idle'"):
        run(model={"name": f"{ME}:forgetful"})


class Forgetful(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(10, num_classes), nn.Linear(10, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.used(x) + x @ self.idle.weight.T
        return y


def forgetful(num_classes: int) -> nn.Module:
    return Forgetful(num_classes)


def test_all_linear_leaves_tied_layers_out() -> None:
    assert set(adapters_of(Tuning(lora=LoraRules()).applied(Tied(), 0))) == {"middle"}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"lora": None, "freeze": ["nowhere.*"]}, "model.freeze: 'nowhere"),
        ({"lora": None, "train": ["nowhere.*"]}, "model.train: 'nowhere"),
        ({"lora": None, "freeze": ["*"]}, "leave no weight to train"),
    ],
)
def test_patterns_that_fit_nothing_are_refused(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(model=model)


def test_two_rules_for_the_same_weights_are_refused() -> None:
    for other in ({"train": ["a"]}, {"lora": {}}):
        with pytest.raises(ConfigError, match="leave one out"):
            check_config(settings(model={"name": "mlp", "freeze": ["b"], **other}))
    with pytest.raises(ConfigError, match=r"model\.lora is set, and mas"):
        check_config(settings(algorithm={"name": "mas"}, model={"name": "mas", "lora": {}}))
