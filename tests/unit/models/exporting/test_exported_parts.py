"""Models that torch.fx cannot trace are cut by torch.export, and their parts are the model in bits."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch
from exported_models import TOKENS, batch, picture_spec, step_of, token_spec, without_dropout

from raysplit.models.cutting.dropout import dropout_stream
from raysplit.models.spec import ModelSpec

pytest.importorskip("transformers")
SIZES = [(5, 23), (2, 7), (1, 16)]
"""Rows and lengths, none of them those of the trace."""


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def assert_equal_to_the_model(spec: ModelSpec, cuts: list[str]) -> None:
    for training in (True, False):
        model = without_dropout(spec.build(), training=training)
        parts = [without_dropout(part, training=training) for part in spec.parts(cuts)]
        for rows, length in SIZES:
            inputs = batch(spec, rows, length)
            output, found, buffers = step_of(parts, inputs)
            expected, wanted, kept = step_of([model], inputs)
            assert torch.equal(output, expected), (cuts, rows, length)
            assert found.keys() == wanted.keys()
            for name, gradient in wanted.items():
                other = found[name]
                if gradient is None or other is None:
                    assert gradient is other, name
                else:
                    assert torch.equal(gradient, other), (name, cuts, rows, length)
            assert all(torch.equal(kept[name], value) for name, value in buffers.items() if name in kept)


def pairs_of_cuts(spec: ModelSpec, number: int) -> list[list[str]]:
    points = [point.name for point in spec.cut_points()]
    drawn = random.Random(3)
    return [[points[i] for i in sorted(drawn.sample(range(len(points)), 2))] for _ in range(number)]


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "T5" else n for n in TOKENS])
def test_parts_of_token_models_are_the_model(name: str) -> None:
    """Sizes taken in front of a cut were frozen behind it, and of 311 cuts of a Llama 284 broke at another length."""
    spec = token_spec(name)
    for cuts in pairs_of_cuts(spec, 1):
        assert_equal_to_the_model(spec, cuts)


@pytest.mark.parametrize("name", [pytest.param("swin_t", marks=pytest.mark.slow), "ConvNeXt"])
def test_parts_of_picture_models_are_the_model(name: str) -> None:
    spec = picture_spec(name)
    for cuts in pairs_of_cuts(spec, 1):
        assert_equal_to_the_model(spec, cuts)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOKENS)
def test_every_single_cut_of_token_models_is_the_model(name: str) -> None:
    spec = token_spec(name)
    for point in spec.cut_points():
        assert_equal_to_the_model(spec, [point.name])


def test_masks_do_not_depend_on_the_cut() -> None:
    """Dropout in attention draws from torch's global stream, which other owners of the process use as well."""
    spec = token_spec("GPT-2")
    inputs = batch(spec, 3, 11)

    def output(cuts: list[str], seed: int) -> torch.Tensor:
        parts = [part.train() for part in spec.parts(cuts)]
        torch.rand(7 * len(cuts))
        with dropout_stream(seed):
            return step_of(parts, inputs)[0]

    first, second = (pairs_of_cuts(spec, 2)[i] for i in range(2))
    assert torch.equal(output(first, 5), output(second, 5))
    assert torch.equal(output(first, 5), output([], 5))
    assert not torch.equal(output(first, 5), output(first, 6))


def test_no_part_receives_the_tokens() -> None:
    """At every place where these models can be cut, no tensor that crosses equals the tokens."""
    for name in ("GPT-2", "BERT"):
        spec = token_spec(name)
        inputs = batch(spec, 3, 9)
        assert not isinstance(inputs, torch.Tensor)
        for point in spec.cut_points():
            z = spec.parts([point.name])[0](**inputs)
            for value in z if isinstance(z, tuple) else (z,):
                assert value.shape != inputs["input_ids"].shape or not torch.equal(value, inputs["input_ids"])


@pytest.mark.parametrize("name", ["GPT-2", "Llama", "BERT"])
def test_what_padding_is_filled_with_does_not_matter(name: str) -> None:
    """Behind a mask, the outputs of the valid positions are the same in bits for padding with token 0 and token 7."""
    spec = token_spec(name)
    inputs = dict(batch(spec, 3, 12))  # type: ignore[arg-type]
    mask = torch.ones(3, 12, dtype=torch.int64)
    mask[1, 5:], mask[2, 9:] = 0, 0
    given = {key: mask for key in inputs if key == "attention_mask"}
    parts = [part.eval() for part in spec.parts([1])]
    found = []
    for pad in (0, 7):
        ids = inputs["input_ids"].masked_fill(mask == 0, pad)
        crossing = parts[0](input_ids=ids, **given)
        output = parts[1](*(crossing if isinstance(crossing, tuple) else (crossing,)))
        found.append(output if output.ndim == 2 else output[mask == 1])
    assert torch.equal(*found)


def test_masks_and_numbers_cross_with_their_own_types() -> None:
    """The mask is sent as the owner has it, with no gradient, and its bytes are those of its elements."""
    spec = token_spec("BERT")
    first, _ = spec.parts([1])
    mask = torch.ones(2, 7, dtype=torch.int64)
    crossing = first(input_ids=torch.ones(2, 7, dtype=torch.int64), attention_mask=mask)
    (sent,) = [value for value in crossing if not value.is_floating_point()]
    assert torch.equal(sent, mask)
    assert sent.dtype == torch.int64
    (point,) = [point for point in spec.cut_points() if point.unit == 1]
    length = spec.traced().crossings.samples(spec.traced().resolve(1))[0].shape[0]
    assert point.num_bytes_per_sample == length * (16 * 4 + 8)


def test_units_are_the_blocks() -> None:
    spec = token_spec("GPT-2")
    assert spec.traced().units == ("transformer.h.0", "transformer.h.1")
    assert [len(list(part.parameters())) for part in spec.parts([1])] == [14, 15]


def test_tied_weights_are_named_where_a_cut_divides_them() -> None:
    spec = token_spec("GPT-2", tie_word_embeddings=True)
    with pytest.raises(
        ValueError, match=r"'transformer.wte.weight' is used before it and, as 'lm_head.weight', after it"
    ):
        spec.parts([1])


def test_a_vocabulary_smaller_than_the_data_is_refused() -> None:
    with pytest.raises(
        ValueError, match="vocab_size is 20 and the data have 50 different tokens; set it to at least 50"
    ):
        token_spec("GPT-2", vocab_size=20).build()


def test_unknown_classes_and_entries_are_refused() -> None:
    spec = ModelSpec(name="hf:GPT2LMHeadMdl", inputs=TOKENS["GPT-2"][1], num_classes=5, seed=0)
    with pytest.raises(ValueError, match=r"no model class 'GPT2LMHeadMdl'; the nearest names are GPT2LMHeadModel"):
        spec.build()
    with pytest.raises(ValueError, match=r"has no entry 'n_layers'; the nearest are n_layer"):
        token_spec("GPT-2", n_layers=3).build()
