"""The folder tree says what the system does; these tests walk the syntax trees and keep it true."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import raysplit

ROOT = Path(raysplit.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if "__pycache__" not in path.parts)

# What each layer may import from the package, beside itself: imports go down only. `schedulers` is a leaf that anybody
# may ask; `cluster` stands beside `actors`, which see its contract alone (a leaf as well).
BELOW = {
    "schedulers": set(),
    "data": {"schedulers"},
    "models": {"schedulers", "data"},
    "actors": {"schedulers", "data", "models", "cluster"},
    "cluster": {"schedulers", "actors"},
    "algorithms": {"schedulers", "data", "models", "actors", "cluster"},
    "train": {"schedulers", "data", "models", "actors", "cluster", "algorithms"},
    "serving": {"schedulers", "data", "models", "actors", "cluster", "algorithms", "train"},
    "cli": {"schedulers", "data", "models", "actors", "cluster", "algorithms", "train", "serving"},
    "": {"cli"},
}
# Of the cluster's files, parties and algorithms see the contract alone.
CONTRACT_ONLY = {"actors", "algorithms"}
MAY_IMPORT_RAY = {
    "cluster/ray_places.py",
    "cluster/ray_place.py",
    "cluster/launch.py",
    "cluster/jobs.py",
    "serving/server.py",
}
MAX_LINES = 300


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Every imported module's full name, wherever in the file the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(path: Path) -> str:
    inside = path.relative_to(ROOT).parts
    return inside[0] if len(inside) > 1 else ""


def test_every_folder_is_a_layer() -> None:
    assert {layer(path) for path in MODULES} == set(BELOW)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_go_down_only(path: Path) -> None:
    own = layer(path)
    reached = {full.split(".")[1] for full in imports(path) if full.startswith("raysplit.")}
    allowed = {own, "__version__"} | BELOW[own]
    assert reached <= allowed, f"{name(path)} may not import {sorted(reached - allowed)}"


@pytest.mark.parametrize("path", [path for path in MODULES if layer(path) in CONTRACT_ONLY], ids=name)
def test_parties_and_algorithms_see_contract_and_clock_alone(path: Path) -> None:
    seen = {full.split(".")[2] for full in imports(path) if full.startswith("raysplit.cluster.")}
    assert seen <= {"contract", "clock"}


@pytest.mark.parametrize("leaf", ["contract.py", "clock.py"])
def test_contract_and_clock_are_leaves(leaf: str) -> None:
    assert not [full for full in imports(ROOT / "cluster" / leaf) if full.startswith("raysplit")]


@pytest.mark.parametrize("path", [path for path in MODULES if layer(path) == "schedulers"], ids=name)
def test_schedulers_are_pure_decisions(path: Path) -> None:
    assert not {full.split(".")[0] for full in imports(path)} & {"torch", "torchvision", "ray", "asyncio"}


def test_ray_is_imported_in_few_files_only() -> None:
    found = {name(path) for path in MODULES if "ray" in {full.split(".")[0] for full in imports(path)}}
    assert found <= MAY_IMPORT_RAY


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_say_what_they_are_and_stay_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    if source.strip():
        assert ast.get_docstring(ast.parse(source)), f"{name(path)} has no docstring"
    num_lines = source.count("\n")
    assert num_lines <= MAX_LINES, f"{name(path)} has {num_lines} lines; look for the second idea in it"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_absolute_path_or_vague_name(path: Path) -> None:
    assert not {"manager", "helper", "helpers", "utils", "misc", "common"} & set(path.stem.split("_"))
    assert "/home/" not in path.read_text(encoding="utf-8")
