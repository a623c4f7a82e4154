"""What is not trained neither travels nor moves, and a model's own number type is not undone without a word."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support import same, train
from torch import Tensor, nn

from raysplit.models.frozen import load_trained, train_mode, trained_state
from raysplit.models.spec import ModelSpec

ME = "unit.models.test_frozen"


class LowRank(nn.Module):
    """A frozen layer with a low-rank correction (Hu et al., 2021, arXiv 2106.09685)."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.base = nn.Linear(num_in, num_out).requires_grad_(False)
        self.down, self.up = nn.Linear(num_in, 1, bias=False), nn.Linear(1, num_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))  # type: ignore[no-any-return]


def corrected(input_shape: tuple[int, ...], num_classes: int, *, norm: bool = False) -> nn.Module:
    """Two corrected layers, on request with a norm between them that is frozen."""
    middle: list[nn.Module] = [nn.BatchNorm1d(64).requires_grad_(False)] if norm else []
    return nn.Sequential(LowRank(input_shape[0], 64), *middle, nn.ReLU(), LowRank(64, num_classes))


def normalized(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(input_shape[0], 8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, num_classes)
    )


class Halved(nn.Sequential):
    """Converts itself, as some models do in their constructor."""

    def __init__(self, kind: str) -> None:
        super().__init__(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 5))
        self.to(getattr(torch, kind))


def run(model: str = "corrected", algorithm: Any = "fedavg", **changes: Any) -> Any:
    given = {"name": algorithm} if isinstance(algorithm, str) else algorithm
    options = changes.pop("options", {})
    return train(model={"name": f"{ME}:{model}", "dtype": "float64", **options}, algorithm=given, **changes)


def test_only_what_is_trained_travels() -> None:
    """A low-rank correction of a frozen base sent 25.76 MB a round for 37 kB of trained weights."""
    result = run(training__rounds=3)
    trained = 8 * (10 + 64 + 64 + 5)  # of float64
    total = sum(result.traffic.column("num_bytes").to_pylist())
    per_round = 2 * 3 * trained  # down and up again for three owners; four evaluators get the last ones
    assert total < 3 * per_round + 3 * 4 * trained + 3 * 4096
    assert result.model()[0].base.weight.shape == (64, 10)  # the base is in the result all the same


@pytest.mark.parametrize(
    ("algorithm", "same_as_fedavg"),
    [
        ({"name": "splitfed_v1", "cut": 1}, True),
        ({"name": "mpsl", "cuts": [1, 2]}, True),
        ({"name": "splitfed_v2", "cut": 1}, False),
        ({"name": "splitnn", "cut": 1}, False),
        ({"name": "minibatch_sfl", "cut": 1}, False),
        ({"name": "fedem"}, False),
        ({"name": "local"}, False),
    ],
)
def test_every_method_trains_beside_frozen_weights(algorithm: Any, same_as_fedavg: bool) -> None:
    options = {"norm": True}
    result = run(algorithm=algorithm, options=options)
    spec = ModelSpec(name=f"{ME}:corrected", input_shape=(10,), num_classes=5, seed=3, dtype="float64", options=options)
    before = spec.build().state_dict()
    fixed = spec.fixed_state()
    assert {"0.base.weight", "1.running_mean", "1.num_batches_tracked"} <= fixed.keys()
    if same_as_fedavg:
        assert same(result, run(options=options))
    for label, state in result.states.items():
        if algorithm["name"] != "fedem":
            assert sorted(state) == sorted(before), label
            assert all(torch.equal(state[key], before[key]) for key in fixed)
            assert not torch.equal(state["0.up.weight"], before["0.up.weight"])
    assert all(math.isfinite(row["train_loss"]) for row in result.rows)


def test_a_frozen_top_does_not_move() -> None:
    """From `freeze_server_from` on, the weights of the top stayed and its running statistics moved on."""
    options = {"name": "mtsl", "cut": 1, "server_forward": "concat", "freeze_server_from": 1}
    once = run("normalized", options, training__rounds=1)
    frozen = run("normalized", options, training__rounds=3)
    for key, value in once.states["owner-0"].items():
        if not key.startswith("0."):
            assert torch.equal(frozen.states["owner-0"][key], value), key
    assert not torch.equal(frozen.states["owner-0"]["0.weight"], once.states["owner-0"]["0.weight"])


def test_a_state_lacks_frozen_weights_alone() -> None:
    model = corrected((4,), 2, norm=True)
    state = trained_state(model)
    assert sorted(state) == ["0.down.weight", "0.up.weight", "3.down.weight", "3.up.weight"]
    load_trained(model, state)
    load_trained(model, model.state_dict())
    with pytest.raises(KeyError, match=r"lacks '0.down.weight'"):
        load_trained(model, {key: value for key, value in state.items() if key != "0.down.weight"})
    with pytest.raises(KeyError, match="has 'other', which"):
        load_trained(model, {**state, "other": torch.zeros(1)})
    train_mode(model)
    assert model.training
    assert not model[1].training  # type: ignore[index]


@pytest.mark.parametrize("kind", ["bfloat16", "float64"])
def test_a_model_that_converts_itself_is_refused(kind: str) -> None:
    """A model that made itself bfloat16 was trained in float32, and nothing said so."""
    options = {"kind": kind}
    with pytest.raises(ValueError, match=f"makes its weight '0.weight' {kind} itself, and model.dtype is float32"):
        train(model={"name": f"{ME}:Halved", **options}, algorithm={"name": "fedavg"})
    ModelSpec(name=f"{ME}:Halved", input_shape=(10,), num_classes=5, seed=0, dtype=kind, options=options).build()
