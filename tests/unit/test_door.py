"""The front door: which names `raysplit` has, and what it costs to open it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import raysplit

NAMES = {
    *("train", "resume", "load", "compare", "sweep", "simulate", "plan"),
    *("Experiment", "Result", "Callback"),
    *("Algorithm", "Options", "Setting", "Team", "RoundContext", "RoundReport"),
    *("DataOwner", "ComputeNode", "Aggregator", "PartySpec", "gather"),
    *("LocalCluster", "RayCluster", "Samples", "DataSet", "trace", "leaf", "merge"),
    *("BadValue", "ConfigError", "NonFiniteLoss", "PlaceLost", "__version__"),
}


def test_the_names_are_held() -> None:
    """A name that is added or removed here is a decision; the documentation and the changelog tell it."""
    assert set(raysplit.__all__) == NAMES
    assert set(raysplit.__all__) <= set(dir(raysplit))


@pytest.mark.parametrize("name", sorted(NAMES - {"RayCluster"}))
def test_every_name_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(raysplit, name)
    if name != "__version__":
        assert found.__doc__
        assert found.__name__ == name


def test_editors_see_the_same_names_as_programs() -> None:
    """The imports for type checkers and the table of lazy ones are written twice; they cannot drift apart."""
    tree = ast.parse(Path(raysplit.__file__).read_text(encoding="utf-8"))
    (for_types,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: str(node.module).removeprefix("raysplit.")
        for node in for_types.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == raysplit._HOME


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'; it has train, resume"):
        raysplit.trian  # noqa: B018


def test_opening_the_door_loads_neither_torch_nor_ray() -> None:
    code = "import sys, raysplit; print(sorted({'torch', 'ray', 'pyarrow', 'pydantic'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
