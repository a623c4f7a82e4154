"""ModelSpec: a small value that builds the same model everywhere."""

from __future__ import annotations

import gc
import pickle
import weakref

import pytest
import torch
from torch import nn

from raysplit.models.cutting.split import merge
from raysplit.models.spec import ModelSpec


def spec(**changes: object) -> ModelSpec:
    fields = {"name": "mlp", "input_shape": (1, 4, 4), "num_classes": 3, "options": {"hidden": [5, 4]}, "seed": 7}
    return ModelSpec(**{**fields, **changes})  # type: ignore[arg-type]


def storages(*modules: nn.Module) -> set[int]:
    return {tensor.data_ptr() for module in modules for tensor in module.state_dict().values()}


def test_equal_specs_are_one_key() -> None:
    same = spec(input_shape=[1, 4, 4], options=(("hidden", (5, 4)),))
    assert same == spec()
    assert {spec(): "here"}[same] == "here"
    assert pickle.loads(pickle.dumps(spec())) == spec()
    assert spec().options == (("hidden", (5, 4)),)
    assert spec(seed=8) != spec()


def test_an_option_may_have_entries_by_name() -> None:
    """The configuration of CLIP's vision part ended in "unhashable type: 'dict'"."""
    nested = {"vision": {"depths": [2, 2], "norm": {"eps": 1e-6}}}
    one, same = (spec(options=options) for options in (nested, pickle.loads(pickle.dumps(nested))))
    assert {one: "here"}[same] == "here"
    assert pickle.loads(pickle.dumps(one)) == one
    assert dict(one.options)["vision"] == {"depths": (2, 2), "norm": {"eps": 1e-6}}
    assert one != spec(options={"vision": {"depths": [2, 3], "norm": {"eps": 1e-6}}})


def test_weights_depend_on_the_seed_alone() -> None:
    before = torch.get_rng_state()
    state = spec().build().state_dict()
    torch.rand(1)
    again = ModelSpec(**{**vars(spec()), "dtype": "float64"}).build().state_dict()
    assert list(state) == [f"{unit}.{w}" for unit in ("hidden1.1", "hidden2.0", "output") for w in ("weight", "bias")]
    for key, value in state.items():
        assert again[key].dtype == torch.float64
        assert torch.equal(again[key], value.double()), key
    assert not torch.equal(spec(seed=8).build().state_dict()["output.weight"], state["output.weight"])
    torch.set_rng_state(before)
    spec(seed=9).build()
    assert torch.equal(torch.get_rng_state(), before)


def test_parts_hold_the_weights_of_the_built_model() -> None:
    model = spec().build()
    parts = spec().parts([1, 2])
    merged = merge([part.state_dict() for part in parts], like=model)
    for key, value in model.state_dict().items():
        assert torch.equal(merged[key], value)
    x = torch.randn(2, 1, 4, 4)
    assert torch.equal(parts[2](parts[1](parts[0](x))), model(x))


def test_no_two_calls_share_memory() -> None:
    built = [spec().build(), spec().build(), *spec().parts([1]), *spec().parts([1])]
    counts = [len(storages(module)) for module in built]
    assert counts == [6, 6, 2, 4, 2, 4]
    assert len(storages(*built)) == sum(counts)
    with torch.no_grad():
        for module in built:
            for weight in module.parameters():
                weight.zero_()
    assert spec().build().get_parameter("output.weight").ne(0).any()


def test_cut_points_are_those_of_the_model() -> None:
    assert [(point.name, point.shapes, point.unit) for point in spec().cut_points()] == [
        ("hidden1.0", ((16,),), None),
        ("hidden1.1", ((5,),), None),
        ("hidden1.2", ((5,),), 1),
        ("hidden2.0", ((4,),), None),
        ("hidden2.1", ((4,),), 2),
    ]
    assert [point.num_bytes_per_sample for point in spec(dtype="float64").cut_points()] == [128, 40, 40, 32, 32]


def test_wrong_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        spec(num_classes=0)
    with pytest.raises(ValueError, match=r"dtype must be one of float32, .* got 'int8'"):
        spec(dtype="int8")
    with pytest.raises(ValueError, match="unknown model 'mlpp'"):
        spec(name="mlpp", options=()).build()


def test_dropped_parts_free_their_weights_at_once() -> None:
    """Parts once held each other in a reference cycle, so that weights piled up until the garbage collector ran."""
    parts = spec().parts([1])
    weights = [weakref.ref(weight) for part in parts for weight in part.parameters()]
    gc.disable()
    try:
        del parts
        assert [weight() for weight in weights] == [None] * 6
    finally:
        gc.enable()
