"""Models of integer inputs and of several inputs are cut like others, and what is private does not cross."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from input_support import TwoInputs, bag_of_tokens
from torch import Tensor, nn

from raysplit.data.inputs import Input, feed
from raysplit.models.cutting.split import trace
from raysplit.models.profiler import measure_profile
from raysplit.models.spec import ModelSpec
from raysplit.models.zoo import build_model

TOKENS = Input(dtype=torch.int64, shape=(6,))
NUMBERS = Input(dtype=torch.float32, shape=(2,))
BOTH = {"tokens": TOKENS, "numbers": NUMBERS}
BATCH = {"tokens": torch.arange(18).view(3, 6) % 12, "numbers": torch.randn(3, 2, dtype=torch.float64)}


def spec(**changes: Any) -> ModelSpec:
    fields = {"name": "input_support:TwoInputs", "inputs": BOTH, "num_classes": 3, "seed": 1, "dtype": "float64"}
    return ModelSpec(**{**fields, **changes})


def test_parts_take_named_inputs_and_pass_on_by_position() -> None:
    whole = spec().build().eval()
    first, second, last = (part.eval() for part in spec().parts(["cat", "join"]))
    z = feed(first, BATCH)
    assert isinstance(z, Tensor)
    assert torch.equal(last(second(z)), feed(whole, BATCH))
    (uncut,) = spec().parts(())
    assert torch.equal(feed(uncut.eval(), BATCH), feed(whole, BATCH))


def test_private_inputs_do_not_cross_and_side_inputs_may() -> None:
    with pytest.raises(ValueError, match="cannot cut at 'numbers': the private input 'tokens' would cross it"):
        spec().parts(["numbers"])
    side = {**BOTH, "tokens": Input(dtype=torch.int64, shape=(6,), role="side")}
    first, last = spec(inputs=side).parts(["numbers"])
    z = feed(first, BATCH)
    assert {value.dtype for value in z} == {torch.float64, torch.int64}
    assert torch.equal(last(*z), feed(spec().build(), BATCH))
    assert [point.name for point in spec().cut_points()] == ["embedding", "mean", "cat", "join", "relu"]


def test_an_owner_without_units_passes_its_inputs_on() -> None:
    first, last = spec().parts([0])
    assert torch.equal(last(*feed(first, BATCH)), feed(spec().build(), BATCH))


def test_inputs_may_shadow_names_of_python() -> None:
    class Shadowing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(2, 2)

        def forward(self, input: Tensor, type: Tensor) -> Tensor:
            return self.head(input + type)  # type: ignore[no-any-return]

    model, batch = Shadowing(), {"input": torch.ones(1, 2), "type": torch.ones(1, 2)}
    first, last = trace(model, batch).cut(["add"])
    assert torch.equal(last(feed(first, batch)), feed(model, batch))


@pytest.mark.parametrize(
    ("example", "says"),
    [
        ({"tokens": BATCH["tokens"]}, r"takes \(numbers, tokens\) and the data have the inputs \(tokens\)"),
        (BATCH["tokens"], r"takes \(numbers, tokens\), but a model of one unnamed input must take one tensor"),
    ],
)
def test_inputs_that_the_model_does_not_take_are_refused(example: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        trace(TwoInputs(3, BOTH), example)


def test_an_input_that_is_never_used_is_refused() -> None:
    class Idle(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + 1

    with pytest.raises(ValueError, match="never uses the input 'b'"):
        trace(Idle(), {"a": torch.ones(1, 2), "b": torch.ones(1, 2)})


def test_tokens_are_traced_and_profiled_as_whole_numbers() -> None:
    text = spec(name="input_support:bag_of_tokens", inputs={"x": TOKENS})
    assert text.input_shape == (6,)
    assert [point.name for point in text.cut_points()] == ["embedding", "mean.mean"]
    profile = measure_profile(bag_of_tokens(3), name="bag", inputs={"x": TOKENS}, batch_size=4, repeats=1)
    assert [unit.activation_bytes for unit in profile.units] == [4 * 4 * 6 * 5, 4 * 4 * 5, 4 * 4 * 3]
    two = measure_profile(TwoInputs(3, BOTH), name="two", inputs=BOTH, batch_size=4, repeats=1)
    assert [unit.activation_bytes for unit in two.units] == [4 * 4 * n for n in (3 + 30, 3 + 5, 8, 7, 7, 3)]


def test_models_that_take_pictures_refuse_other_inputs() -> None:
    with pytest.raises(ValueError, match=r"'mlp' takes one floating input .* the data have x \(torch.int64, \(6,\)\)"):
        build_model("mlp", input_shape=(), num_classes=3, data_inputs={"x": TOKENS})
    with pytest.raises(ValueError, match="takes one input_shape and the data have the inputs tokens, numbers"):
        build_model("raysplit.models.nets.small_nets:mlp", input_shape=(), num_classes=3, data_inputs=BOTH)


def test_specs_with_inputs_are_keys() -> None:
    assert {spec(): "here"}[spec(inputs=tuple(BOTH.items()))] == "here"
    assert spec(inputs={"x": NUMBERS}) == spec(inputs=(), input_shape=(2,))
    example = spec().example(2)
    assert isinstance(example, dict)
    assert {name: (value.dtype, tuple(value.shape)) for name, value in example.items()} == {
        "tokens": (torch.int64, (2, 6)),
        "numbers": (torch.float64, (2, 2)),
    }
