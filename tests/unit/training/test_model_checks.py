"""A run refuses, before training, models that send samples, learn something else once cut, or return something else."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from support import same, train
from torch import Tensor, nn

from raysplit.data.inputs import Input
from raysplit.models.cutting.tracing import leaf
from raysplit.models.spec import ModelSpec
from raysplit.training.model_checks import check_outputs

ME = "unit.training.test_model_checks"


def flattening(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """A chain whose first unit has no weights."""
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0], 8), nn.ReLU(), nn.Linear(8, num_classes))


class Joined(nn.Module):
    """Concatenates its input to a late layer."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        (width,) = input_shape
        self.a, self.b = nn.Linear(width, 8), nn.Linear(8 + width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.cat([torch.relu(self.a(x)), x], 1))  # type: ignore[no-any-return]


class ByValue(nn.Module):
    """Branches on the values of its input, which no trace can follow."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.out = nn.Linear(input_shape[0], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x if float(x.sum()) > 0 else -x)  # type: ignore[no-any-return]


@leaf
class WholeLeaf(ByValue):
    """The same, decorated as the error message advises."""


class TwoOutputs(ByValue):
    def forward(self, x: Tensor) -> Any:
        return self.out(x), x


class Named(ByValue):
    def forward(self, x: Tensor) -> Any:
        return {"logits": self.out(x)}


class ThreeOutputs(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3))


class Images(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 5))


def run(model: Any, algorithm: Any = "splitfed_v2", **changes: Any) -> Any:
    given = {"name": algorithm} if isinstance(algorithm, str) else algorithm
    name = model if isinstance(model, str) else f"{ME}:{model.__name__}"
    return train(model={"name": name, **changes.pop("options", {})}, algorithm=given, training__rounds=1, **changes)


@pytest.mark.parametrize("name", ["splitnn", "splitfed_v1", "splitfed_v2", "minibatch_sfl", "mtsl"])
def test_samples_do_not_leave_their_owners(name: str) -> None:
    """A model that concatenates its input to a late layer sent every sample as it was, and nothing said so."""
    with pytest.raises(ValueError, match=r"cut 1 would send raw inputs to server: 'x' .* no cut of this model keeps"):
        run(Joined, name)


def test_an_explicit_cut_in_front_of_all_weights_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cut 1 would send raw inputs to server: '0' .* cut after unit 2 or later"):
        run(flattening, {"name": "splitfed_v1", "cut": 1})
    with pytest.raises(ValueError, match="cut 1 would send raw inputs to node-1"):
        run(flattening, {"name": "mpsl", "cuts": [1, 2]})
    with pytest.raises(ValueError, match="cut 0 would send raw inputs"):
        run("mlp", {"name": "minibatch_sfl", "cut": 0})


def test_the_default_cut_keeps_the_samples(caplog: pytest.LogCaptureFixture) -> None:
    """With the default cut after unit 1, a model that flattens first left its owners no weight."""
    caplog.set_level(logging.WARNING)
    by_default = run(flattening)
    assert "cut: auto places it after unit 2" in caplog.text
    assert same(by_default, run(flattening, {"name": "splitfed_v2", "cut": 2}))
    assert same(run("mlp"), run("mlp", {"name": "splitfed_v2", "cut": 1}))


def test_samples_leave_where_the_configuration_names_them() -> None:
    run(Joined, options={"send_inputs": ["x"]})
    with pytest.raises(ValueError, match=r"model.send_inputs names 'pictures', and the inputs of the data are x"):
        run(Joined, options={"send_inputs": ["pictures"]})


def test_bottoms_of_other_architectures_keep_the_samples_too() -> None:
    """MTSL lets owners bring bottoms of their own, each with a cut of its own."""
    own = {"model": f"{ME}:flattening", "cut": 1}
    with pytest.raises(ValueError, match=r"bottom of owner-0|would send raw inputs"):
        run("mlp", {"name": "mtsl", "cut": 1, "bottoms": {"owner-0": own}})


def test_methods_that_do_not_cut_train_what_cannot_be_traced() -> None:
    """FedAvg refused a model that torch.fx cannot trace, with the advice to decorate it, which changed nothing."""
    assert same(run(ByValue, "fedavg"), run(WholeLeaf, "fedavg"))
    run(Joined, "fedavg")
    for model, says in ((ByValue, "cannot trace model ByValue"), (WholeLeaf, "WholeLeaf is a leaf itself")):
        with pytest.raises(ValueError, match=rf"{says}.* or take a method that does not cut the model"):
            run(model, "splitfed_v1")


def test_too_few_outputs_are_refused() -> None:
    """A model with three outputs for five classes ended in "IndexError: Target 3 is out of bounds"."""
    with pytest.raises(ValueError, match=r"(has 3 outputs|\[2, 3\]).* 5 classes"):
        run(ThreeOutputs, "fedavg")


@pytest.mark.parametrize(
    ("model", "says"),
    [(TwoOutputs, "returns a tuple of 2, and"), (Named, "returns a dict of 'logits', and")],
)
def test_models_that_return_no_tensor_are_refused(model: type[nn.Module], says: str) -> None:
    """A model that returns a tuple trained a round, and ended in a traceback when it was evaluated."""
    with pytest.raises(ValueError, match=f"{says} training takes one tensor .* return the logits alone"):
        run(model, "fedavg")


class Decides(nn.Module):
    """Returns decisions in the place of logits."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.out = nn.Linear(input_shape[0], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x) > 0


def test_a_model_that_decides_is_refused() -> None:
    """A model with boolean outputs ended in torch's words on a kernel that is not implemented."""
    with pytest.raises(ValueError, match=r"returns bool numbers, which have no gradient; .* return the logits"):
        run(Decides, "fedavg")


def test_a_model_of_other_inputs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Images' fails on 2 samples of the inputs x \[10\]: RuntimeError"):
        run(Images, "fedavg")


class Forgetful(nn.Module):
    """Divides by the number of its passes."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.out, self.passes = nn.Linear(input_shape[0], num_classes), 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.out(x) / self.passes  # type: ignore[no-any-return]


def hooked(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """A model with a hook at a weight, which torch does not copy."""
    layer = nn.Linear(input_shape[0], num_classes)
    layer.weight.register_hook(lambda gradient: -gradient)  # type: ignore[no-untyped-call]
    return layer


def half_buffer(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """A model with a buffer in half precision."""
    layer = nn.Linear(input_shape[0], num_classes)
    layer.register_buffer("small", torch.ones(2, dtype=torch.float16))
    return layer


def test_what_no_checkpoint_keeps_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A run of a model with a counter, or with a generator of its own, was resumed to other weights without a word."""
    caplog.set_level(logging.WARNING)
    run(Forgetful, "fedavg")
    assert "keeps something between batches that is neither a weight nor a buffer" in caplog.text
    caplog.clear()
    run("mlp", "fedavg")
    assert "between batches" not in caplog.text


def test_a_hook_at_a_weight_is_refused() -> None:
    """A hook that turns a gradient was lost in the copies of all parties, and the run ended as if it were not there."""
    with pytest.raises(ValueError, match=r"has a hook at its weight 'weight', which torch does not copy"):
        run(hooked, "fedavg")


def test_a_buffer_that_gets_another_type_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    run(half_buffer, "fedavg")
    assert "the buffer 'small' of the model" in caplog.text
    assert "is float16 and becomes float32" in caplog.text


def test_a_model_for_other_inputs_says_what_it_takes() -> None:
    """A model of pictures that got tokens said: 'NoneType' object has no attribute 'dtype'."""
    words = {"words": Input(dtype=torch.int64, shape=(4,))}
    spec = ModelSpec(name="sequence_support:Reader", inputs=words, num_classes=2, seed=0)
    with pytest.raises(ValueError, match=r"its forward has no 'words' and takes ids, attention_mask, so give a model"):
        check_outputs(spec)
