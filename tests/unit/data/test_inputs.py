"""What the data say about the inputs of a model, and batches of that kind."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from input_support import tokens_and_numbers
from torch import Tensor, nn

from raysplit.data.inputs import Input, Values, cast, concatenated, described, example_batch, feed
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sources.arrays import data_set_of_sides
from raysplit.data.sources.map_style import side_of
from raysplit.data.transforms import Compose, ToUnit

PICTURE = Input(dtype=torch.float32, shape=(1, 2, 2))
TOKENS = Input(dtype=torch.int64, shape=(None,), ragged=True, pad=9)
MASK = Input(dtype=torch.bool, shape=(None,), ragged=True, role="side")


def made(inputs: dict[str, Input], rows: int, **options: Any) -> dict[str, Tensor]:
    batch = example_batch(inputs, rows, **options)
    assert isinstance(batch, dict)
    return batch


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"dtype": torch.uint8, "shape": (3,)}, "an input has dtype torch.uint8; a model takes floating numbers"),
        ({"dtype": torch.float32, "shape": (0,)}, "sizes must be at least 1, or None"),
        ({"dtype": torch.int64, "shape": (None,)}, "set ragged=True exactly when a size is None"),
        ({"dtype": torch.int64, "shape": (3,), "ragged": True}, "set ragged=True exactly when a size is None"),
        ({"dtype": torch.int64, "shape": (), "pad": 0.5}, "cannot be padded with 0.5"),
        ({"dtype": torch.int64, "shape": (), "role": "public"}, "role 'public'; it must be private or side"),
    ],
)
def test_wrong_records_are_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Input(**fields)


def test_a_record_is_a_key_and_travels() -> None:
    same = Input(dtype=torch.int64, shape=[None], ragged=True, pad=9)  # type: ignore[arg-type]
    assert {TOKENS: "here"}[same] == "here"
    assert pickle.loads(pickle.dumps(TOKENS)) == TOKENS


def test_shape_and_inputs_say_the_same() -> None:
    assert described({}, [1, 2, 2]) == ({"x": PICTURE}, (1, 2, 2))
    assert described({"x": PICTURE}, ()) == ({"x": PICTURE}, (1, 2, 2))
    assert described({"x": TOKENS}, ())[1] == ()
    assert described({"a": PICTURE, "b": PICTURE}, ())[1] == ()
    with pytest.raises(ValueError, match="neither inputs nor input_shape"):
        described({}, ())
    with pytest.raises(ValueError, match=r"input_shape is \(4,\) and the inputs say \(1, 2, 2\)"):
        described({"x": PICTURE}, (4,))


def test_examples_hold_no_sample() -> None:
    one = example_batch({"x": PICTURE}, 3, dtype=torch.float64)
    assert isinstance(one, Tensor)
    assert (one.dtype, one.shape, one.any().item()) == (torch.float64, (3, 1, 2, 2), False)
    batch = made({"tokens": TOKENS, "mask": MASK}, 2, lengths=[1, 3])
    assert batch["tokens"].tolist() == [[0, 9, 9], [0, 0, 0]]
    assert batch["mask"].tolist() == [[True, False, False], [True, True, True]]
    assert batch["tokens"].dtype == torch.int64
    with pytest.raises(ValueError, match="1 lengths for 2 rows"):
        example_batch({"tokens": TOKENS}, 2, lengths=[1])


def test_drawn_examples_are_those_of_the_generator() -> None:
    drawn = example_batch({"x": PICTURE}, 3, generator=torch.Generator().manual_seed(4))
    assert isinstance(drawn, Tensor)
    assert torch.equal(drawn, torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(4)))
    named = made({"n": PICTURE, "mask": MASK}, 2, generator=torch.Generator().manual_seed(4))
    assert named["mask"].all()


def test_a_batch_is_cast_as_the_data_say() -> None:
    inputs = {"tokens": TOKENS, "mask": MASK, "n": PICTURE}
    batch = {"n": torch.ones(2, 1, 2, 2), "mask": torch.ones(2, 3), "tokens": torch.ones(2, 3, dtype=torch.int32)}
    taken = cast({**batch, "more": torch.ones(2)}, inputs, torch.float64)
    assert isinstance(taken, dict)
    assert {name: value.dtype for name, value in taken.items()} == {
        "tokens": torch.int64,
        "mask": torch.bool,
        "n": torch.float64,
    }
    pictures = cast(torch.ones(2, 1, 2, 2, dtype=torch.uint8), {"x": PICTURE}, torch.bfloat16)
    assert isinstance(pictures, Tensor)
    assert pictures.dtype == torch.bfloat16  # whatever the transform left it in
    with pytest.raises(ValueError, match="has the inputs n, mask and lacks tokens"):
        cast({"n": batch["n"], "mask": batch["mask"]}, inputs, torch.float32)
    with pytest.raises(ValueError, match="has the inputs x and lacks mask, n, tokens"):
        cast(torch.ones(2, 3), inputs, torch.float32)


def test_models_get_named_inputs_by_name() -> None:
    class Minus(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a - b

    assert feed(Minus(), {"b": torch.tensor(1), "a": torch.tensor(3)}).item() == 2
    assert feed(nn.Identity(), torch.tensor(3)).item() == 3


# -- what a data set finds out by itself -------------------------------------------------------------------------------


def of(x: Values, y: Values | None = None, **fields: Any) -> DataSet:
    samples = Samples(x=x, y=torch.tensor([0, 1]) if y is None else y)
    return DataSet(
        train=samples, test=samples, num_classes=2, **{"transform": ToUnit(), "eval_transform": ToUnit()} | fields
    )


def test_pictures_are_one_unnamed_floating_input() -> None:
    stored = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    for data in (of(stored), of(stored, input_shape=(1, 2, 2))):
        assert data.inputs == {"x": PICTURE}
        assert data.input_shape == (1, 2, 2)
        assert data.targets == {"y": Input(dtype=torch.int64, shape=())}
        example = data.example(3, dtype=torch.float64)
        assert isinstance(example, Tensor)
        assert (example.dtype, example.shape) == (torch.float64, (3, 1, 2, 2))
    assert of(stored, input_shape=(4,)).inputs["x"].shape == (4,)  # what the transform makes of them, as ever
    assert replace(data, train=data.train.take([0])).inputs == data.inputs


def test_tokens_stay_whole_numbers() -> None:
    data = of(torch.zeros(2, 5, dtype=torch.int32), eval_transform=Compose(steps=(ToUnit(),)))
    assert data.inputs == {"x": Input(dtype=torch.int64, shape=(5,))}
    example = data.example(2)
    assert isinstance(example, Tensor)
    assert example.tolist() == [[0] * 5] * 2
    with pytest.raises(ValueError, match=r"owners.domain changes pictures.* x \(torch.int64, \(5,\)\)"):
        data.require_pictures("owners.domain changes")


def test_several_inputs_and_targets_keep_their_names() -> None:
    x = {"tokens": torch.zeros(2, 5, dtype=torch.int64), "attention_mask": torch.ones(2, 5, dtype=torch.bool)}
    data = of(x, {"size": torch.rand(2, 3), "kind": torch.tensor([1, 0])})
    assert data.inputs["attention_mask"] == Input(dtype=torch.bool, shape=(5,), role="side")
    assert data.inputs["tokens"].role == "private"
    assert data.input_shape == ()
    assert data.targets == {
        "size": Input(dtype=torch.float32, shape=(3,)),
        "kind": Input(dtype=torch.int64, shape=()),
    }
    with pytest.raises(ValueError, match=r"training samples have the inputs \['tokens'.* test samples \['x'\]"):
        replace(data, test=Samples(x=torch.zeros(2, 5), y=torch.tensor([0, 1])))


def test_what_data_say_may_be_given() -> None:
    data = of(torch.zeros(2, 5, dtype=torch.uint8), inputs={"x": Input(dtype=torch.int64, shape=(5,))})
    assert data.inputs["x"].dtype == torch.int64
    assert data.input_shape == (5,)


def test_named_samples_are_taken_and_travel_whole() -> None:
    x = {"a": torch.arange(6).view(3, 2), "b": torch.tensor([True, False, True])}
    samples = Samples(x=x, y=torch.tensor([0, 1, 2]))
    part = pickle.loads(pickle.dumps(samples.take([2, 0])))
    assert {name: value.tolist() for name, value in part.x.items()} == {"a": [[4, 5], [0, 1]], "b": [True, True]}
    assert (len(samples), len(part), part.y.tolist()) == (3, 2, [2, 0])
    joined = concatenated([samples.x, part.x])
    assert isinstance(joined, dict)
    assert joined["b"].tolist() == [True, False, True, True, True]
    with pytest.raises(ValueError, match=r"x\['b'\] has 2 entries and x\['a'\] has 3"):
        Samples(x={**x, "b": torch.zeros(2)}, y=torch.tensor([0, 1, 2]))
    for names in ({"x": torch.zeros(3, 1)}, {}):
        with pytest.raises(ValueError, match="named inputs have names other than 'x'"):
            Samples(x=names, y=torch.tensor([0, 1, 2]))


# -- what users' map-style sets become ---------------------------------------------------------------------------------


def test_integer_tensors_are_tokens_and_integer_arrays_numbers() -> None:
    tokens = side_of([(torch.tensor([3, 4]), 0)], "mine").x
    assert isinstance(tokens, Tensor)
    assert tokens.dtype == torch.int64
    numbers = side_of([(np.array([3, 4]), 0)], "mine").x
    assert isinstance(numbers, Tensor)
    assert numbers.dtype == torch.float32


def test_items_may_have_inputs_by_name() -> None:
    train, test = (side_of(side, "mine") for side in tokens_and_numbers())
    data = data_set_of_sides(train, test, "mine")
    assert data.inputs == {
        "tokens": Input(dtype=torch.int64, shape=(6,)),
        "numbers": Input(dtype=torch.float32, shape=(2,)),
    }
    mask = side_of([({"mask": np.array([True]), "ids": np.array([1])}, 0)], "mine").x
    assert isinstance(mask, dict)
    assert (mask["mask"].dtype, mask["ids"].dtype) == (torch.bool, torch.int64)


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ({"b": torch.ones(2)}, r"an item has the inputs \['b'\] and the first has \['a'\]"),
        (torch.ones(2), "an item has the inputs Tensor"),
        ({"a": torch.ones(3)}, "input 'a': inputs differ in shape"),
    ],
)
def test_items_that_differ_are_refused(second: Any, says: str) -> None:
    with pytest.raises(ValueError, match=f"mine: {says}"):
        side_of([({"a": torch.ones(2)}, 0), (second, 1)], "mine")
