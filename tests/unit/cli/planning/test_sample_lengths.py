"""Profiles, plans and simulations of models whose samples differ in length: of which length, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from sequence_support import sentences

from raysplit.cli.planning.plan import plan
from raysplit.cli.planning.profile import profile
from raysplit.cli.planning.simulate import simulate_command
from raysplit.schedulers.cuts.profiles import load_profile

SAID = "for samples of length 7, as in the profile; those of the data differ"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(configured(tmp_path)))
    return path


def configured(folder: Path) -> dict[str, Any]:
    return {
        "data": {"name": sentences(folder), "vocabulary": 9},
        "model": {"name": "sequence_support:Reader"},
        "partition": {"name": "natural_id", "num_owners": 3},
        "algorithm": {"name": "splitfed_v1", "cut": 2},
        "training": {"rounds": 1, "batch_size": 30},
        "topology": {
            "devices": {"laptop": {"profile": str(folder / "laptop.csv"), "bandwidth_mbit_per_s": 8}},
            "owners": "laptop",
            "nodes": ["laptop"],
        },
    }


def measured(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(profile, [*arguments, "--repeats", "1", "--json"], catch_exceptions=False)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_profile_of_a_configuration_has_the_length_of_its_mean_batch(config: Path) -> None:
    """Three batches of 30 sentences of 1 to 7 words: the longest of each has 7."""
    folder = config.parent
    usual = measured(str(config), "--set", "topology=null", "--output", str(folder / "laptop.csv"))
    short = measured(str(config), "--set", "topology=null", "--length", "3", "--batch-size", "2")
    assert (usual["length"], usual["batch_size"], short["length"], short["batch_size"]) == (7, 30, 3, 2)
    assert usual["model"] == "sequence_support:Reader"
    sizes = [[unit["activation_bytes"] for unit in found["units"]] for found in (usual, short)]
    mask = {7: 7 * 30, 3: 3 * 2}
    assert sizes[0][0] == 4 * 30 * 7 * 6 + mask[7]
    assert sizes[1][0] == 4 * 2 * 3 * 6 + mask[3]
    assert load_profile(folder / "laptop.csv").length == 7
    simulated = CliRunner().invoke(simulate_command, [str(config)], catch_exceptions=False)
    assert SAID in " ".join(simulated.output.split())
    told = CliRunner().invoke(simulate_command, [str(config), "--json"], catch_exceptions=False)
    assert json.loads(told.output)["length"] == 7
    options = ["--profile", str(folder / "laptop.csv"), "--units", "2:3", "--owners", "2", "--node", "1GiB:1"]
    assert SAID in " ".join(CliRunner().invoke(plan, options, catch_exceptions=False).output.split())


def test_a_profile_of_other_lengths_than_the_data_is_refused(config: Path) -> None:
    """A profile of one shape gave times and bytes of that shape for sentences of any length, and nothing said so."""
    folder = config.parent
    fixed = ["--set", "topology=null", "--set", "data.pad_to=max"]
    measured(str(config), *fixed, "--output", str(folder / "laptop.csv"))
    assert load_profile(folder / "laptop.csv").length is None
    with pytest.raises(ValueError, match="the samples differ in length from batch to batch, and the profile was mea"):
        CliRunner().invoke(simulate_command, [str(config)], catch_exceptions=False)
    measured(str(config), "--set", "topology=null", "--output", str(folder / "laptop.csv"))
    with pytest.raises(
        ValueError, match="the samples have one shape, and the profile was measured with samples of len"
    ):
        CliRunner().invoke(simulate_command, [str(config), "--set", "data.pad_to=max"], catch_exceptions=False)


def test_lengths_that_cannot_be_are_refused(config: Path) -> None:
    for arguments, message in (
        (
            ["--set", "data.pad_to=max", "--length", "3"],
            "the length is 3, and all batches of these data have one shape",
        ),
        (["--set", "model.max_positions=8", "--length", "9"], "the length is 9, and the model has 8 positions"),
    ):
        with pytest.raises(ValueError, match=message):
            measured(str(config), "--set", "topology=null", *arguments)
    result = CliRunner().invoke(profile, [str(config), "--model", "mlp"])
    assert result.exit_code == 2
    assert "give either CONFIG or --model NAME" in result.output
