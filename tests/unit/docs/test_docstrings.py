"""The examples in docstrings run, and give what stands below them."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from documented import EXAMPLES
from torch import nn

import raysplit

ROOT = Path(raysplit.__file__).parent
MODULES = [
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for path in sorted(ROOT.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
SHOWN = {"train", "load", "compare", "sweep", "simulate", "plan", "trace", "leaf", "merge", "Samples", "DataSet"}
"""Public names whose docstrings have an example, beside those of `Result`, `Callback` and `Experiment`."""


@pytest.fixture(scope="module")
def beside_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the examples and three runs, as the docstrings have them."""
    folder = tmp_path_factory.mktemp("docstrings")
    quick = {"model": "mlp", "data": "digits", "training": {"rounds": 1, "max_steps": 2}, "cluster": "local"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("examples").symlink_to(EXAMPLES)
        for seed, name in enumerate(("a", "b", "mine")):
            raysplit.train(algorithm="fedavg", folder=f"runs/{name}", seed=seed, **quick)  # type: ignore[arg-type]
        yield folder


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str, beside_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(beside_runs)
    given = {"raysplit": raysplit, "torch": torch, "nn": nn, "np": np}
    tests = [
        test for test in doctest.DocTestFinder().find(importlib.import_module(name), extraglobs=given) if test.examples
    ]
    assert tests
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    told: list[str] = []
    for test in tests:
        runner.run(test, out=told.append)
    assert not told, "".join(told)


@pytest.mark.parametrize("name", sorted(SHOWN | {"Result", "Callback", "Experiment", "Options"}))
def test_names_that_users_touch_have_an_example(name: str) -> None:
    assert ">>> " in (getattr(raysplit, name).__doc__ or "")
