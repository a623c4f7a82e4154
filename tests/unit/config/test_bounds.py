"""Settings of any size and kind are refused in little time, with a message that one can read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from raysplit.config.run import ConfigError, check_config, load_config
from raysplit.registry import clipped, few, first_lines, shown


def mistake(tree: Any) -> str:
    began = time.process_time()
    with pytest.raises(ConfigError) as caught:
        check_config(tree)
    assert time.process_time() - began < 10
    assert len(str(caught.value)) < 4_096
    return str(caught.value)


def many(count: int) -> dict[str, int]:
    return {f"key{i}": i for i in range(count)}


@pytest.mark.parametrize(
    ("tree", "first", "rest"),
    [
        (many(20_000), "key0: unknown key", 19_990),
        ({"training": many(4_000)}, "training.key0: unknown key", 3_990),
        ({"algorithm": many(4_000)}, "algorithm.key0: unknown key", 3_990),
        ({"data": {"name": "random", **many(4_000)}}, "data.key0: random has no such option", 3_990),
        ({"training": {"optimizer": many(4_000)}}, "training.optimizer.key0: sgd has no such option", 3_990),
        ({"evaluation": {"targets": ["a"] * 4_000}}, "evaluation.targets.0: must be a valid number", 3_990),
        ({"topology": {"devices": many(4_000), "owners": "a"}}, "topology.devices.key0: a section must be", 3_990),
    ],
)
def test_of_thousands_of_mistakes_ten_are_shown_and_the_others_counted(tree: Any, first: str, rest: int) -> None:
    """A file of 16,000 unknown keys had a message of 2.2 MB, and one of 100,000 had none after 45 seconds."""
    lines = mistake(tree).splitlines()
    assert len(lines) == 11
    assert lines[0].startswith(first)
    assert lines[-1] == f"and {rest:,} more mistakes"


@pytest.mark.parametrize("key", ["batch-size", "int", "str", "a[0]", "literal(x)"])
def test_a_key_is_named_whatever_its_letters(key: str) -> None:
    """``training.batch-size`` was told as "training: unknown key", as if the key were one of pydantic's words."""
    assert mistake({"training": {key: 3}}).startswith(f"training.{key}: unknown key")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"seed": 10**5_000}, "seed: must be from -2**63 to 2**63 - 1 (got a whole number of 5,000 digits)"),
        ({"data": {"name": "random", "seed": 2**63}}, "data.seed: must be from -2**63 to 2**63 - 1"),
        ({"partition": {"num_owners": 10**9}}, "partition.num_owners: must be less than or equal to 1000000"),
        ({"training": {"local_epochs": 10**9}}, "training.local_epochs: must be less than or equal to 1000000"),
        ({"topology": {"devices": {"pi": {}}, "owners": {"pi": 10**12}}}, "topology.owners.pi: must be less than or"),
        ({"topology": {"devices": {"pi": {}}, "owners": {"pi": -1}}}, "topology.owners.pi: must be greater than or"),
    ],
)
def test_counts_have_a_limit(tree: Any, message: str) -> None:
    """``num_owners: 1000000000`` took all memory, ``topology.owners: {pi: 1e12}`` and many epochs never ended."""
    assert message in mistake(tree)


@pytest.mark.parametrize("setting", ["training.rounds", "training.optimizer.lr", "seed", "partition.num_owners"])
@pytest.mark.parametrize("value", ["true", "false"])
def test_a_truth_value_is_no_number(setting: str, value: str) -> None:
    """``rounds: true`` trained one round."""
    with pytest.raises(ConfigError, match=rf"{setting}: .*got (True|False)"):
        load_config(None, [f"{setting}={value}"])


def test_a_truth_value_is_no_number_of_an_option() -> None:
    assert "model.hidden" in mistake({"model": {"name": "mlp", "hidden": [True]}})
    assert "evaluation.targets" in mistake({"evaluation": {"targets": [True]}})


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def shared(levels: int) -> Any:
    value: Any = {"k": 1}
    for _ in range(levels):
        value = [value] * 9
    return value


def test_settings_that_are_deep_or_huge_in_python_are_refused_too() -> None:
    circle: dict[str, Any] = {}
    circle["seed"] = circle
    for tree in (deep(100_000), circle, {"data": {"name": "a:b", "x": deep(40)}}):
        assert "nested more than 32 levels deep" in mistake(tree)
    assert "more than 100,000 values" in mistake({"data": {"name": "a:b", "x": shared(9)}})


def test_an_option_cannot_be_deep() -> None:
    with pytest.raises(ConfigError, match="is nested more than 32 levels deep"):
        load_config(None, ["a." * 5_000 + "b=1"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"a: {'x' * 2_000_000}", "it has more than 1,048,576 bytes"),
        (f"seed: {'9' * 5_000}", "a whole number of 5,000 digits; settings have at most 40"),
        (f"? [{'a, ' * 50}]\n: 1", "is a list or a mapping"),
        (f"{'a' * 900}: 1\n{'a' * 900}: 1", "is there twice"),
    ],
)
def test_a_file_has_a_limit(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.yaml") as caught:
        load_config(path)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1_000


def test_a_path_without_an_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot read /dev/zero: it has more than"):
        load_config("/dev/zero")


@pytest.mark.parametrize("name", ["a" * 1_000_000, "a\0b", "a\ud800b", "[/x]y"])
def test_a_name_of_any_letters_has_a_message(name: str) -> None:
    for tree in ({"model": {"name": name}}, {"output": {"name": name}}, {name: 1}, {"data": {"name": f"{name}.npz "}}):
        mistake(tree)


def test_values_are_shown_in_little_space() -> None:
    assert len(shown("a" * 1_000)) == 120
    assert shown([1, 2]) == "[1, 2]"
    assert shown(list(range(100))) == "[0, 1, 2, 3, ...]"
    assert shown(10**5_000) == "a whole number of 5,000 digits"
    assert clipped("abcdefghijklmnop", 14) == "abcd ... mnop"
    assert few(range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
    assert first_lines(["a", "b"]) == "a\nb"
    assert first_lines(["a" * 2_000] * 4).splitlines()[1:] == ["and 3 more mistakes"]
