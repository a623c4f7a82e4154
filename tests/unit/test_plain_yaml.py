"""Text of settings is read as YAML 1.2, and written so that both versions of YAML read the same."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from raysplit.plain_yaml import NotYaml, Texts, read, read_value, write

NAME = Texts(keys={"output": Texts(keys={"name": Texts(scalar=True)})})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 0.0005),
        ("9e-1", 0.9),
        ("1e5", 100000.0),
        ("-1E+2", -100.0),
        (".5", 0.5),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("TRUE", True),
        ("~", None),
        ("", None),
        ("-.INF", float("-inf")),
    ],
)
def test_numbers_of_yaml_1_2(text: str, value: object) -> None:
    """A user wrote ``weight_decay: 5e-4`` and ``ratio: 9e-1``, which YAML 1.1 reads as text: "'<' not supported
    between 'str' and 'float'"."""
    found = read(text, "a file")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["no", "on", "yes", "off", "2026-01-02", "1:30", "1_000", "0b1", "=", "1e"])
def test_what_only_yaml_1_1_takes_for_more_is_text(text: str) -> None:
    assert read(text, "a file") == text


@given(
    st.dictionaries(
        st.text(max_size=6),
        st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False),
    )
)
def test_both_versions_read_what_is_written(tree: dict[str, Any]) -> None:
    text = write(tree)
    assert read(text, "a file") == tree
    assert yaml.safe_load(text) == tree


@pytest.mark.parametrize("value", ["5e-4", "no", "2026-01-02", "0o17", "1_000", "", "null", "~"])
def test_text_that_looks_like_more_is_quoted(value: str) -> None:
    assert write({"a": value}) == f"a: '{value}'\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "training: {rounds: 1}\nseed: 1\ntraining: {}",
            "the key 'training' is there twice, in lines 1 and 3; keep one",
        ),
        ("a: {b: [{c: 1, c: 2}]}", "the key 'c' is there twice, in line 1; keep one (line 1, column 16)"),
        ("<<: {a: 1}\n<<: {b: 1}", "the key '<<' is there twice, in lines 1 and 2"),
        ("1: a\n0x1: b", "the key 1 is there twice"),
        ("[a]: 1", "the key ['a'] is a list or a mapping"),
        ("&a\nb: *a", "an anchor contains itself"),
        ("a: !!timestamp 2001-01-01", "could not determine a constructor"),
        ("a: !!python/object:os.system {}", "could not determine a constructor"),
        ("a: [", "expected the node content"),
        ("\x00", "special characters are not allowed"),
    ],
)
def test_a_problem_is_told_with_its_line(text: str, problem: str) -> None:
    """Of a section that was there twice, the last one won, without a word."""
    with pytest.raises(NotYaml, match="a file is not valid YAML: ") as caught:
        read(text, "a file")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_are_not_nested_without_end() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)  # other code of the process may have raised it
    try:
        with pytest.raises(NotYaml, match="nested too deep"):
            read("[" * 5000, "a file")
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize("inner", ["[{}]", "{{<<: [{}]}}"])
def test_anchors_cannot_blow_a_document_up(inner: str) -> None:
    lines = ["a: &a {k: 1}"]
    for one, next_one in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{next_one}: &{next_one} {inner.format(', '.join([f'*{one}'] * 9))}")
    with pytest.raises(NotYaml, match="more than 100,000 values"):
        read("\n".join(lines), "a file")


def test_anchors_and_merges_of_ordinary_size_are_read() -> None:
    text = "base: &b {lr: 1e-1, name: sgd}\nother: {<<: *b, lr: 2e-1}"
    assert read(text, "a file")["other"] == {"lr": 0.2, "name": "sgd"}


@pytest.mark.parametrize("value", ["123", "0123", "2026-01-02", "no", "1e5", "true", "1_000", ".5"])
def test_where_text_is_wanted_a_value_is_taken_letter_by_letter(value: str) -> None:
    """``--name 123``, ``--name 2026-01-02`` and ``--name no`` were refused: "must be a valid string"."""
    assert read(f"output: {{name: {value}}}", "a file", NAME) == {"output": {"name": value}}
    assert read_value(value, "an option", NAME.below("output").below("name")) == value


def test_text_at_one_place_is_a_number_at_another() -> None:
    assert read("seed: &a 3\noutput: {name: *a}", "a file", NAME) == {"seed": 3, "output": {"name": "3"}}


@pytest.mark.parametrize(
    ("text", "value"),
    [("null", None), ("", None), ("~", "~"), ("'1'", "1"), (" a # b ", "a # b"), ("a: b", "a: b"), ("{x}", "{x}")],
)
def test_an_option_of_text_is_no_yaml(text: str, value: str | None) -> None:
    assert read_value(text, "an option", Texts(scalar=True)) == value


@pytest.mark.parametrize(
    "value", ["!include /etc/passwd", "!!timestamp 2020-01-01", "!!binary aGk=", "!x y", "!!set z"]
)
def test_a_type_of_its_own_is_refused_where_text_is_read_too(value: str) -> None:
    """``data.name: !include /etc/passwd`` was read as the name ``/etc/passwd``, without a word about the tag."""
    for document in (f"name: {value}", f"{value.split()[0]} name: b"):
        with pytest.raises(NotYaml, match="could not determine a constructor"):
            read(document, "a file", Texts(keys={"name": Texts(scalar=True)}))


def test_a_plain_type_is_text_where_text_is_read() -> None:
    texts = Texts(keys={"name": Texts(scalar=True)})
    assert [read(f"name: {value}", "a file", texts) for value in ("5", "!!int 5", "true", "<<", "!!str a")] == [
        {"name": text} for text in ("5", "5", "true", "<<", "a")
    ]
