"""The commands `plan` and `profile` as a person and as a program use them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from commands import shell
from documented import EXAMPLES

from raysplit.cli.planning.plan import plan
from raysplit.cli.planning.profile import profile
from raysplit.cli.planning.quantities import parse_bandwidth, parse_bytes, parse_nodes
from raysplit.schedulers.cuts.profiles import load_profile

VGG = ["--profile", "vgg19_mpsl_vm", "--units", "3:21", "--owners", "150"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(plan, list(arguments))


def node_options(*nodes: str) -> list[str]:
    return [part for node in nodes for part in ("--node", node)]


@pytest.mark.parametrize("solver", ["cbc", "dp"])
def test_json_has_the_published_optimum_and_nothing_else(solver: str) -> None:
    nodes = node_options("4GiB:2", "8GiB:2", "16GiB:1", "16GiB:1", "16GiB:1")
    result = run(*VGG, *nodes, "--solver", solver, "--json")
    answer = json.loads(result.stdout)
    assert answer["objective_ms"] == pytest.approx(907.5506, rel=1e-6)
    assert answer["l_fwd_ms"] + answer["l_bwd_ms"] == pytest.approx(answer["objective_ms"])
    assert (answer["cuts"][0], answer["cuts"][-1], len(answer["cuts"])) == (3, 22, 6)
    assert sorted(answer["nodes"]) == ["node-1", "node-2", "node-3", "node-4", "node-5"]


def test_a_table_for_people_and_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "plan.png"
    result = run(*VGG, *node_options("16GiB:1", "16GiB:1:0.2"), "--picture", str(picture))
    assert result.exit_code == 0
    assert "L_fwd 361.28 + L_back 1389.74 = 1751.02 ms per batch" in result.stdout
    assert "12-21" in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"figure: {picture}" in result.output  # it was drawn without a word


def test_cheapest_nodes_within_a_time() -> None:
    nodes = node_options("vm_16gib_x1", "vm_16gib_x1", "vm_8gib_x2", "vm_8gib_x2")
    answer = json.loads(run(*VGG, *nodes, "--objective", "price", "--max-time-ms", "1400", "--json").stdout)
    assert (answer["price_per_hour"], len(answer["nodes"])) == (pytest.approx(0.48), 3)
    assert answer["objective_ms"] == pytest.approx(1330.30, rel=1e-5)


def test_the_front() -> None:
    nodes = node_options("vm_16gib_x1", "vm_16gib_x1", "vm_8gib_x2", "vm_8gib_x2")
    answer = json.loads(run(*VGG, *nodes, "--front", "--json").stdout)
    assert [plan["price_per_hour"] for plan in answer["front"]] == pytest.approx([0.576, 0.48, 0.384])
    table = run(*VGG, *nodes, "--front").stdout
    assert all(time in table for time in ("1107.66", "1330.30", "1751.02"))


def test_the_plan_beside_its_baselines() -> None:
    """VGG-19 on three fast and two slow nodes: 907.55 ms a batch planned, 983.18 by hand."""
    nodes = node_options(*["16GiB:1"] * 3, *["8GiB:2"] * 2)
    arguments = ["--profile", "vgg19_mpsl_vm", "--units", "3:21", "--owners", "5", *nodes]
    answer = json.loads(run(*arguments, "--baselines", "--json").stdout)
    by_hand, one, copies = answer["baselines"]
    assert by_hand["round_ms"] / answer["round_ms"] == pytest.approx(983.18 / 907.55, rel=1e-4)
    assert one["round_ms"] > copies["round_ms"] > answer["round_ms"] > 0
    assert "baselines" not in json.loads(run(*arguments, "--json").stdout)
    table = run(*arguments, "--baselines").stdout
    assert all(text in table for text in ("split by hand", "one node", "whole copies", "7.7%"))
    tight = run(*VGG, *node_options("4GiB:2", "8GiB:2", "16GiB:1", "16GiB:1", "16GiB:1"), "--baselines").stdout
    assert "impossible" in tight
    both = run(*arguments, "--baselines", "--front")
    assert (both.exit_code, "give one of the two" in both.stderr) == (2, True)


def test_free_owner_cuts_and_links() -> None:
    """With 100 MiB the owner keeps more than its first unit; a slow link becomes the longest stage."""
    arguments = ["--profile", "vgg19_mpsl_vm", "--owners", "1", "--owner-memory", "100MiB", *node_options("16GiB:1")]
    free = json.loads(run(*arguments, "--json").stdout)
    assert free["cuts"][0] > 1
    slow = json.loads(run(*arguments, "--links", "8Mbit", "--json").stdout)
    assert slow["objective_ms"] > free["objective_ms"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*VGG, *node_options("16GiB:1", "8GiB:2", "4GiB:2")], "node-3 lacks 1.42 GiB for 150 replicas of units 3-4"),
        ([*VGG, *node_options("16GiB")], "'16GiB' is not MEMORY:SLOWDOWN[:PRICE] such as 16GiB:1"),
        ([*VGG, *node_options("lots:1")], "'lots' is not a size such as 16GiB"),
        ([*VGG, *node_options("16GiB:1"), "--links", "0Mbit"], "has a link of 0.0 bytes/s; give it more than 0"),
        ([*VGG, *node_options("16GiB:1"), "--links", "1Mbit", "--links", "2Mbit"], "2 --links for 1 nodes"),
        ([*VGG, *node_options("16GiB:1"), "--owner-memory", "1GiB"], "give either --units"),
        (
            ["--profile", "vgg19_mpsl_vm", "--units", "3-21", "--owners", "1", *node_options("1GiB:1")],
            "is not FIRST:LAST",
        ),
        (["--profile", "vgg19_mpsl_d9", "--units", "3:21", "--owners", "1", *node_options("1GiB:1")], "no profile"),
        (
            ["--profile", "vgg19_mpsl_vm", "--units", "3:4", "--owners", "1", *node_options(*["1GiB:1"] * 3)],
            "3 compute nodes",
        ),
    ],
)
def test_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Mistakes in a plan ended with exit code 1, where the documentation promises 2."""
    code, out, err = shell(capsys, "plan", *arguments, "--json")
    assert (code, out) == (2, "")
    assert message in err


def test_quantities() -> None:
    assert [parse_bytes(text) for text in ("16GiB", "0.5 MiB", "2KB", "7")] == [16 * 2**30, 2**19, 2000, 7]
    assert [parse_bandwidth(text) for text in ("8Mbit", "7.13Gbit/s", "1MB/s")] == [1e6, 7.13e9 / 8, 1e6]
    nodes = parse_nodes(["16GiB:1", "8GiB:2:0.1"], ["8Mbit"])
    assert [(node.name, node.kind.price_per_hour, node.link_bytes_per_s) for node in nodes] == [
        ("node-1", 0.0, 1e6),
        ("node-2", 0.1, 1e6),
    ]


def test_profile_then_plan(tmp_path: Path) -> None:
    """A measured profile is a plan's input."""
    path = tmp_path / "measured.parquet"
    arguments = ["--model", "mlp", "--input-shape", "8", "--batch-size", "4", "--repeats", "1", "--output", str(path)]
    measured = CliRunner().invoke(profile, arguments)
    assert measured.exit_code == 0, measured.output
    assert "sum" in measured.stdout
    units = load_profile(path).units
    planned = run(
        "--profile", str(path), "--units", f"1:{len(units) - 1}", "--owners", "2", "--node", "1GiB:1", "--json"
    )
    assert json.loads(planned.stdout)["cuts"] == [1, len(units)]


def test_profile_as_json() -> None:
    arguments = ["--model", "mlp", "--input-shape", "8", "--batch-size", "4", "--repeats", "1", "--json"]
    answer = json.loads(CliRunner().invoke(profile, arguments).stdout)
    assert (answer["model"], answer["batch_size"]) == ("mlp", 4)


def test_profile_of_a_model_of_tokens() -> None:
    arguments = ["--model", "input_support:bag_of_tokens", "--input-shape", "6", "--num-classes", "3", "--json"]
    answer = json.loads(CliRunner().invoke(profile, [*arguments, "--input-type", "int64", "--repeats", "1"]).stdout)
    assert [unit["name"] for unit in answer["units"]] == ["embedding", "mean", "head"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "mlp", "--input-shape", "8", "--input-type", "int64"], "takes one floating input"),
        (["--model", "no_such_net"], "unknown model 'no_such_net'"),
        (["--model", "mlp", "--input-shape", "3x32"], "'3x32' must be sizes such as 3,32,32"),
        (["--model", "mlp", "--output", "profile.txt"], "must end in .parquet or .csv"),
        (["--model", "mlp", "--repeats", "0"], "repeats is 0"),
    ],
)
def test_profile_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = shell(capsys, "profile", *arguments)
    assert code == 2
    assert message in err


def test_free_owner_cuts_count_the_owners_time() -> None:
    """`--owner-memory 1GiB` left all but a dropout and the output layer with the owners: "a round takes 0.00 min"."""
    answer = json.loads(
        run(
            "--profile", "vgg19_mpsl_vm", "--owner-memory", "1GiB", "--owners", "15", "--node", "64GiB:1", "--json"
        ).stdout
    )
    profile = load_profile("vgg19_mpsl_vm")
    ms = [unit.forward_ms + unit.backward_ms + unit.update_ms for unit in profile.units]
    sizes = [unit.activation_bytes + unit.parameter_bytes for unit in profile.units]
    best = min(  # one node: the time of its units for all owners, or that of an owner's own
        (max(15 * sum(ms[first:end]), sum(ms) - sum(ms[first:end])), (first, end))
        for first in range(1, len(ms) - 1)
        for end in range(first + 1, len(ms))
        if sum(sizes[:first]) + sum(sizes[end:]) <= 2**30
    )
    assert tuple(answer["cuts"]) == best[1]
    assert answer["cuts"][-1] < len(ms), "the output layer, and with it the labels, stay with the owner"
    assert answer["round_ms"] == pytest.approx(32 * best[0])
    assert answer["owner_bytes"] <= 2**30


def test_an_owner_too_small_for_the_ends_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--profile", "vgg19_mpsl_vm", "--owner-memory", "1MiB", "--owners", "15", "--node", "64GiB:1"]
    code, _, err = shell(capsys, "plan", *arguments)
    assert code == 2
    assert "the data owner has 1 MiB and no cuts leave it less than" in err


def test_the_example_of_the_help_is_planned() -> None:
    """`raysplit plan examples/mpsl_simulate.yaml`, the first example of the command's own help, was refused.

    Its cuts are listed, and the nodes' units are those between the first and the last of them.
    """
    assert json.loads(run(str(EXAMPLES / "mpsl_simulate.yaml"), "--json").stdout)["cuts"] == [2, 18, 31, 35]


def test_a_front_is_drawn(tmp_path: Path) -> None:
    """`--front --picture` drew nothing, without a word."""
    picture = tmp_path / "front.png"
    result = run(*VGG, *node_options("16GiB:1:2", "16GiB:2:1"), "--front", "--picture", str(picture))
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"figure: {picture}" in result.output
