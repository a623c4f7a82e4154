"""Networks of tokens and of time series: their units, what they refuse, and that no place sees what comes after it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from raysplit.data.inputs import Input
from raysplit.models.spec import ModelSpec
from raysplit.models.zoo import build_model

TOKENS = {"x": Input(dtype=torch.int64, shape=(8,))}


def text_net(**options: Any) -> Any:
    return build_model(
        "text_transformer",
        input_shape=(8,),
        num_classes=11,
        data_inputs=TOKENS,
        data_sizes={"vocab_size": 11},
        **options,
    )


def test_no_place_of_a_text_sees_what_comes_after() -> None:
    model = text_net(width=8, heads=2).eval()
    ids = torch.arange(8)[None]
    other = ids.clone()
    other[0, 5:] = 3
    with torch.no_grad():
        assert torch.equal(model(ids)[0, :5], model(other)[0, :5])
        assert not torch.equal(model(ids)[0, 5:], model(other)[0, 5:])
        assert model(ids[:, :3]).shape == (1, 3, 11)


def test_the_example_has_137_thousand_weights() -> None:
    shape = (64,)
    model = build_model(
        "text_transformer",
        input_shape=shape,
        num_classes=256,
        data_inputs={"x": Input(dtype=torch.int64, shape=shape)},
        data_sizes={"vocab_size": 256},
    )
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(137_000, rel=0.01)


@pytest.mark.parametrize("name", ["cnn1d", "lstm"])
def test_time_series_are_read_and_cut(name: str) -> None:
    spec = ModelSpec(name=name, input_shape=(6, 32), num_classes=7, seed=0)
    bottom, top = (part.eval() for part in spec.parts([1]))
    x = torch.randn(3, 6, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(top(bottom(x)), spec.build().eval()(x))
    with pytest.raises(ValueError, match=rf"{name} takes time series \(channels, steps\), and an input has the shape"):
        build_model(name, input_shape=(3, 8, 8), num_classes=7)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"width": 10}, "heads must divide the width"), ({"dropout": 1.0}, "dropout is from 0 to below 1")],
)
def test_sizes_that_do_not_fit_are_refused(options: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        text_net(**options)


def test_other_inputs_than_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes one input of tokens .T. with a vocabulary, and the data have x"):
        build_model("text_transformer", input_shape=(3, 8, 8), num_classes=7)
