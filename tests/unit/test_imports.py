"""Scripts outside of the package import names that there are: nobody runs all benchmarks with every change."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for folder in ("benchmarks", "examples", "tests/ray") for path in (ROOT / folder).rglob("*.py"))
NEED_RAY = ("raysplit.cluster.on_ray", "raysplit.serving.server")


def imported(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("raysplit"):
            names = [(node.module, alias.name) for alias in node.names]
            yield from (pair for pair in names if not ".".join(pair).startswith(NEED_RAY))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_that_a_script_imports_are_there(path: Path) -> None:
    """Two benchmarks and a test on Ray named modules that had moved, and nobody had run them since."""
    for module, name in imported(path):
        found = importlib.import_module(module)
        if not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")
