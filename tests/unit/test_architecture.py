"""The folder tree says what the system does; these tests walk the syntax trees and keep it true."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import raysplit

ROOT = Path(raysplit.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if "__pycache__" not in path.parts)

# Of the cluster, parties and algorithms see the contract, the forms of what they expect, sums, the clock and devices.
SEEN_BY_PARTIES = {"contract", "arriving", "sums", "clock", "device", "device_queue"}
MAY_IMPORT_RAY = {
    "cluster/on_ray/places.py",
    "cluster/on_ray/place.py",
    "cluster/on_ray/answers.py",
    "cluster/on_ray/connect.py",
    "cluster/on_ray/jobs.py",
    "serving/server.py",
}
MAX_LINES = 300
MAX_FILES = 12


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


def module(path: Path) -> str:
    """The dotted name of a file."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package(full: str) -> str:
    """The first folder of a dotted name; of a file that stands in none, its own name."""
    return ".".join(full.split(".")[:2])


def package_graph() -> dict[str, set[str]]:
    """What every package imports of the others, imports for types alone among them."""
    known = {module(path) for path in MODULES}
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        own = package(module(path))
        for full in imports(path):
            if full.startswith("raysplit."):
                found = full if full in known else full.rpartition(".")[0]
                graph.setdefault(own, set()).add(package(found))
    return {name: reached - {name} for name, reached in graph.items()}


def test_packages_import_without_circles() -> None:
    """Imports go down only: there is an order of the packages in which each imports none that comes after it."""
    TopologicalSorter(package_graph()).prepare()  # raises CycleError with the circle


def test_circles_are_found() -> None:
    with pytest.raises(CycleError, match="cycle"):
        TopologicalSorter({"a": {"b"}, "b": {"c"}, "c": {"a"}}).prepare()


def test_folders_are_few_levels_deep_and_not_crowded() -> None:
    """A folder that nobody can take in at a glance has a second subject in it."""
    folders = Counter(path.parent.relative_to(ROOT) for path in MODULES if path.name != "__init__.py")
    crowded = {str(folder): count for folder, count in folders.items() if count > MAX_FILES}
    assert not crowded, f"more than {MAX_FILES} files: {crowded}"
    assert not [folder for folder in folders if len(folder.parts) > 2]


@pytest.mark.parametrize(
    "path", [p for p in MODULES if package(module(p)) in ("raysplit.actors", "raysplit.algorithms")], ids=name
)
def test_parties_and_algorithms_see_contract_clock_and_devices_alone(path: Path) -> None:
    seen = {full.split(".")[2] for full in imports(path) if full.startswith("raysplit.cluster.")}
    assert seen <= SEEN_BY_PARTIES


@pytest.mark.parametrize("leaf", ["contract.py", "clock.py"])
def test_contract_and_clock_are_leaves(leaf: str) -> None:
    assert not [full for full in imports(ROOT / "cluster" / leaf) if full.startswith("raysplit")]


@pytest.mark.parametrize("path", [path for path in MODULES if package(module(path)) == "raysplit.schedulers"], ids=name)
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
