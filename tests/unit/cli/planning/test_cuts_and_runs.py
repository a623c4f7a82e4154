"""What `raysplit cuts` counts is what a run counts: bytes both ways, side inputs, trained weights, operations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from sequence_support import sentences, text

import raysplit
from raysplit.cli.planning.cuts import cuts
from raysplit.config.build import build
from raysplit.config.run import RunConfig, check_config


def listed(folder: Path, config: RunConfig, *options: str) -> dict[str, Any]:
    """The answer of the command for settings in a file."""
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    answered = CliRunner().invoke(cuts, [str(path), "--json", *options], catch_exceptions=False)
    assert answered.exit_code == 0, answered.output
    found: dict[str, Any] = json.loads(answered.output)
    return found


def reader(folder: Path) -> dict[str, Any]:
    model = {"name": "sequence_support:Reader"}
    return {"data": {"name": sentences(folder)}, "model": model, "algorithm": {"name": "splitfed_v1", "cut": "inner"}}


def place(answer: dict[str, Any], at: int | str) -> dict[str, Any]:
    """The place after so many units, or with this name."""
    (found,) = [place for place in answer["places"] if at in (place["unit"], place["name"])]
    return dict(found)


@pytest.mark.parametrize("more", [{}, {"train": ["block2.*", "head.*"]}, {"lora": {"rank": 2, "targets": ["into"]}}])
def test_bytes_and_weights_are_those_that_a_round_counts(more: dict[str, Any], tmp_path: Path) -> None:
    """Frozen weights in front of the cut: no gradient returns, and none of them are sent."""
    tree = text(tmp_path, {"name": "splitfed_v1", "cut": "block1"}).model_dump(mode="json")
    tree["training"]["rounds"] = 1
    tree["model"] |= more
    config = check_config(tree)
    result = raysplit.train(config)
    found = place(listed(tmp_path, config), 2)
    traffic = result.traffic.to_pandas()
    is_up = traffic.source.str.startswith("owner") & traffic.destination.str.startswith("server")
    is_down = traffic.source.str.startswith("server") & traffic.destination.str.startswith("owner")
    num_samples = sum(len(data.shard) for data in build(config).setting.owners.values())
    assert traffic[is_up].smashed_bytes.sum() == num_samples * found["num_bytes_per_sample"]
    assert traffic[is_down].gradients_bytes.sum() == num_samples * found["num_bytes_back_per_sample"]
    is_back = traffic.source.str.startswith("owner") & traffic.destination.str.startswith("aggregator")
    assert traffic[is_back].weights_bytes.sum() == 2 * 4 * found["trained_before"]


def test_samples_of_different_lengths_have_the_mean_length_of_their_batches(tmp_path: Path) -> None:
    """With the length 16 of an example, whatever the data, bytes were those of other samples."""
    config = check_config(reader(tmp_path))
    usual, long = listed(tmp_path, config), listed(tmp_path, config, "--length", "40")
    assert 1 <= usual["length"] <= 7
    assert long["length"] == 40
    per_token = [place(answer, "inner")["num_bytes_per_sample"] / answer["length"] for answer in (usual, long)]
    assert per_token[0] == per_token[1]


def test_masks_are_side_inputs_and_give_no_gradient(tmp_path: Path) -> None:
    config = check_config(reader(tmp_path))
    answer = listed(tmp_path, config, "--length", "5")
    found = place(answer, "inner")
    assert found["num_bytes_side_per_sample"] == 5  # the mask, a byte for each token
    assert found["num_bytes_back_per_sample"] == found["num_bytes_per_sample"] - 5


def test_a_length_is_refused_where_samples_have_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the length is 5, and all batches of these data have one shape"):
        listed(tmp_path, check_config({"model": {"name": "mlp"}}), "--length", "5")


def test_operations_are_those_of_the_layers(tmp_path: Path) -> None:
    """An mlp of 10-30-30-5 multiplies 300, 900 and 150 numbers."""
    data = {"name": "random", "num_classes": 5, "num_samples": 50, "dim": 10}
    config = check_config({"model": {"name": "mlp", "hidden": [30, 30]}, "data": data})
    shares = {p["unit"]: p["flops_before"] for p in listed(tmp_path, config)["places"] if p["unit"] is not None}
    assert shares == pytest.approx({0: 0, 1: 300 / 1350, 2: 1200 / 1350, 3: 1})


def test_recurrent_layers_are_counted(tmp_path: Path) -> None:
    data = {"name": "wrist", "num_windows": 7}
    config = check_config(
        {"model": {"name": "lstm"}, "data": data, "partition": {"name": "natural_id", "num_owners": 7}}
    )
    assert place(listed(tmp_path, config), 1)["flops_before"] > 0.9


def test_blocks_are_the_units_of_a_model_of_timm(tmp_path: Path) -> None:
    """Where torch.fx traces a model every step between two places was a unit, so that cut: 3 was inside a norm."""
    pytest.importorskip("timm")
    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": 12, "depth": 3, "num_heads": 2}
    answer = listed(tmp_path, check_config({"model": {"name": "timm:vit_tiny_patch16_224", **sizes}}))
    assert answer["front_end"] == "fx"
    named = {p["unit"]: p["name"] for p in answer["places"] if p["unit"] is not None}
    assert named == {0: "", 1: "blocks.0.add#2", 2: "blocks.1.add#2", 3: "head"}
