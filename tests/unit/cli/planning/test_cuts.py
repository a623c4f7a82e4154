"""`raysplit cuts` shows what training would send, and every name that an error or the documentation gives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from raysplit.cli.planning.cuts import cuts
from raysplit.models.cutting.split import trace
from raysplit.models.spec import ModelSpec

RANDOM = "data={name: random, num_classes: 4, num_samples: 40, dim: 8}"


class Twice(nn.Module):
    """Uses a layer twice, and its input again at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.again, self.out = nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(14, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.again(self.again(self.inside(x)))
        return self.out(torch.cat([h, x], 1))  # type: ignore[no-any-return]


def listed(*overrides: str, options: tuple[str, ...] = ()) -> str:
    arguments = [part for override in overrides for part in ("--set", override)]
    result = CliRunner().invoke(cuts, [*arguments, *options], catch_exceptions=False, env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result.output


def test_the_numbers_are_those_of_the_parts() -> None:
    answer: Any = json.loads(listed("model.name=cnn8", options=("--json",)))
    spec = ModelSpec(name="cnn8", input_shape=(1, 8, 8), num_classes=10, seed=0)
    assert answer["model"] == "cnn8"
    for place in answer["places"]:
        before, after = spec.parts([place["name"] or 0])
        z = before(torch.zeros(3, 1, 8, 8))
        assert place["num_bytes_per_sample"] == z.nbytes // 3
        assert place["parameters_before"] == sum(p.numel() for p in before.parameters())
        assert place["parameters_after"] == sum(p.numel() for p in after.parameters())
    assert [p["name"] for p in answer["places"] if p["unit"] is not None] == [
        *("", "conv1.1", "conv2.2", "hidden.2", "output"),
    ]
    assert [p["name"] for p in answer["places"] if p["sent_inputs"]] == [""]


def test_a_table_says_where_inputs_leave_and_why_not() -> None:
    """A configuration error hid 56 of 67 legal cuts, and no command listed them."""
    overrides = (RANDOM, "model.name=unit.cli.planning.test_cuts:Twice")
    short, whole = listed(*overrides), listed(*overrides, options=("--all",))
    assert "raw inputs: x" in short
    assert "cannot be cut: 1; --all shows them and says why" in short
    assert "no cut keeps the inputs at their owner; model.send_inputs allows" in short
    assert "'again.weight' is used" in whole
    assert all(len(line) <= 80 for line in whole.splitlines()[:-1])
    assert "cut: auto is after unit 1" in listed("model.name=mlp")


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    with pytest.raises(ValueError, match=r"no place to cut 'inner'; did you mean 'inside'\?; .* raysplit cuts lists"):
        trace(Twice(), torch.ones(1, 8)).cut(["inner"])
    with pytest.raises(ValueError, match=r"'again.weight' is used .*; the nearest places are 'inside' and 'again#2'; "):
        trace(Twice(), torch.ones(1, 8)).resolve("again#1")


def test_the_cut_that_the_readme_names_is_there() -> None:
    """README named a module that its model did not have."""
    text = Path(__file__).parents[4].joinpath("README.md").read_text()
    (model,) = re.findall(r"model: \{name: (\w+)\}", text)
    (name,) = re.findall(r"or after a module: (\S+)", text)
    ModelSpec(name=model, input_shape=(3, 32, 32), num_classes=10, seed=0).parts([name])


def test_one_place_is_explained() -> None:
    overrides = (RANDOM, "model.name=unit.cli.planning.test_cuts:Twice")
    crosses = listed(*overrides, options=("--why", "cat"))
    assert "the model can be cut at cat, after cat" in crosses
    assert "crosses, one sample: 14 float32; 56 bytes; raw inputs among it: cat" in crosses
    assert "weights before 96, after 60" in crosses


def test_a_block_of_a_timm_model_is_explained() -> None:
    pytest.importorskip("timm")
    options = ("img_size=8", "patch_size=4", "embed_dim=12", "depth=2", "num_heads=2")
    named = ("model.name=timm:vit_tiny_patch16_224", *(f"model.{option}" for option in options))
    answer = listed(*named, options=("--why", "blocks.0"))
    assert "the model can be cut at blocks.0" in answer
    assert "5x12 float32; 240 bytes; no raw inputs among it" in answer  # four patches and the class token
