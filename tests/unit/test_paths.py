"""Paths and names as users write them."""

from __future__ import annotations

import pytest

from raysplit.paths import checked_name, expanded, fresh_name


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("BUCKET", "b1")
    monkeypatch.delenv("NOWHERE", raising=False)


@pytest.mark.parametrize(
    ("path", "full"),
    [
        ("~/runs", "/home/ada/runs"),
        ("~", "/home/ada"),
        ("$HOME/x", "/home/ada/x"),
        ("${HOME}/x-$BUCKET", "/home/ada/x-b1"),
        ("s3://$BUCKET/runs/~x", "s3://b1/runs/~x"),
        ("runs/~", "runs/~"),
        ("a$", "a$"),
        ("runs", "runs"),
    ],
)
def test_home_and_variables_are_expanded(path: str, full: str) -> None:
    """``--set output.root=~/runs`` made a folder that was named ``~``."""
    assert expanded(path) == full


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("$NOWHERE/x", "the environment variable NOWHERE, which is not set"),
        ("~nobody-of-that-name/x", "no user's home folder; write ./~nobody-of-that-name/x"),
        ("a\0b", "a character that no file name can have"),
        ("a\ud800", "a character that no file name can have"),
    ],
)
def test_what_is_no_path_is_refused(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"path|home folder") as caught:
        expanded(path)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["a", "123", "2026-01-02", "no", "_x", "a.b-c_d", "x" * 200])
def test_names_that_can_be_typed_again(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "/x", "a b", " a", "--help", "-x", ".hidden", "a\n", "a\0b", "\ud83d", "a\\b", "é",
     "\x1b[31m", "a:b", "x" * 201],
)  # fmt: skip
def test_other_names_are_refused_with_the_rule(name: str) -> None:
    """``../x`` left the folder of the runs, and a run named ``--help`` could not be resumed."""
    with pytest.raises(ValueError, match=r"cannot be the name of a run: a name has letters a-z, digits and \. _ -"):
        checked_name(name)


def test_runs_without_a_name_get_different_ones() -> None:
    """Eight runs of one configuration that began in the same second had one name, and seven were refused."""
    names = {fresh_name("my run: first") for _ in range(100)}
    assert len(names) == 100
    assert all(checked_name(name).startswith("my_run_first-2") for name in names)
    assert checked_name(fresh_name("...")).startswith("run-")
