"""Every model of the benchmark's list: its parts are the whole, wherever it is cut."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from raysplit.data.inputs import Input
from raysplit.models.cutting.tracing import CannotCut
from raysplit.models.spec import ModelSpec
from raysplit.seeding import generator, torch_generator

LIBRARIES = {"torchvision": "torchvision", "timm": "timm", "hf": "transformers"}
NUM_PAIRS = 3
NO_ROWS = "torchvision:fasterrcnn_resnet50_fpn"
"""A model whose output has no fixed number of rows."""
BRANCHES = "hf:Wav2Vec2ForSequenceClassification"
"""A model with branches that neither front end follows."""
SHARED_BY_BRANCHES = "timm:coat_tiny"
"""A model whose branches share weights: a cut changes the order in which their gradients are added."""


TOKENS_AT_THE_END = "hf:GPT2ForSequenceClassification"
"""A model whose head looks for the last token, so that the tokens themselves would cross every cut."""
END_OF_TEXT = "hf:BartForSequenceClassification"
"""A model that takes samples with an end-of-text token alone, which drawn ones lack."""
ONE_LENGTH = "hf:MambaForCausalLM"
"""A model whose trace takes the length for a constant: its scan is a loop over it."""


def benchmark() -> ModuleType:
    """The benchmark that makes the table of these models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks" / "models"))
        return importlib.import_module("table")


TABLE = benchmark()
SPECS: dict[str, ModelSpec] = TABLE.specs()
REFUSED = (NO_ROWS, BRANCHES, TOKENS_AT_THE_END, END_OF_TEXT)
LIST = SPECS | {ONE_LENGTH: replace(SPECS[ONE_LENGTH], inputs={"input_ids": Input(dtype=torch.int64, shape=(17,))})}


def sides(spec: ModelSpec, cuts: list[str], training: bool) -> Any:
    """Output, gradients and buffers of the parts, on rows of two lengths where samples differ in length."""
    inputs = dict(spec.example_inputs())
    lengths = [23, 17] if any(entry.ragged for entry in inputs.values()) else None
    batch = spec.example(2, lengths=lengths, generator=torch_generator(0, "every model"))
    return TABLE.step(spec.traced().copy().cut(cuts), batch, training)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LIST if name not in REFUSED])
def test_three_parts_are_the_whole(name: str) -> None:
    """Outputs, gradients and buffers in bits, in both modes, at three pairs of places that the seed draws."""
    pytest.importorskip(LIBRARIES[name.partition(":")[0]])
    spec = replace(LIST[name], ends="together").with_front_end()  # tied weights are one party's
    spec.check_cuttable()
    points = [point.name for point in spec.traced().cut_points]
    draws = generator(0, "pairs of cuts", name)
    pairs = [sorted(draws.choice(len(points), size=2, replace=False).tolist()) for _ in range(NUM_PAIRS)]
    allowed = 1e-6 if name == SHARED_BY_BRANCHES else 0.0
    for training in (True, False):
        whole = sides(spec, [], training)
        for low, high in pairs:
            cuts = [points[low], points[high]]
            assert TABLE.largest_difference(whole, sides(spec, cuts, training)) <= allowed, f"{cuts}, {training=}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "says"),
    [
        (NO_ROWS, "cannot be cut"),
        (BRANCHES, "cannot be cut"),
        (ONE_LENGTH, r"fails where the model does not"),
    ],
)
def test_what_no_front_end_takes_is_refused(name: str, says: str) -> None:
    """Mamba failed in an operator of torch, with a traceback."""
    pytest.importorskip(LIBRARIES[name.partition(":")[0]])
    with pytest.raises(CannotCut, match=says):
        SPECS[name].with_front_end().check_cuttable()


@pytest.mark.slow
def test_a_head_that_looks_at_the_tokens_lets_none_of_them_cross() -> None:
    pytest.importorskip("transformers")
    traced = replace(SPECS[TOKENS_AT_THE_END], ends="together").with_front_end().traced()
    assert not traced.cut_points
    assert any("'input_ids' would cross it" in str(traced.objection(n)) for n in range(1, traced.crossings.end))
