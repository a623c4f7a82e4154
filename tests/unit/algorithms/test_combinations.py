"""Every combination of method, data, owners' options, cuts and servers trains, or is refused before the start.

MiniBatch-SFL and MTSL on a classifier of several tasks, two servers with everything at the owners, and MAS with a
domain each ended with a traceback: combinations that nobody had run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

import pytest
import torch
from combinations import ALIKE, CELLS, KINDS, SIZES, VARIANTS, Cell, outcome, settings, write_shards
from combinations_page import YES, entry_of, expected, page
from documented import DOCS

from raysplit.algorithms import ALGORITHMS
from raysplit.runs.result import Result

PAGE = (DOCS / "matrix.md").read_text(encoding="utf-8")
NAMED = re.compile(r"\b(model|data|training|owners|partition|algorithm)(\.\w+|: )")
WAY_OUT = re.compile(r"; .*\b(set|use|leave|give|take|train)\b")
Run = Callable[[Cell], Result | str]
SOME = [cell for number, cell in enumerate(CELLS) if cell.owners == ALIKE or number % 13 == 0]
"""All combinations where owners are alike, and a few of each with others."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    shards, known = write_shards(tmp_path_factory.mktemp("shards")), dict[Cell, Result | str]()

    def of(cell: Cell) -> Result | str:
        if cell not in known:
            known[cell] = outcome(settings(cell, shards))
        return known[cell]

    return of


def check(cell: Cell, run: Run) -> str:
    """Check what a cell does, and return its entry in the page."""
    found = run(cell)
    if isinstance(found, str):
        assert NAMED.search(found), f"{found!r} names no setting"
        assert WAY_OUT.search(found), f"{found!r} has no way out"
        return entry_of(found)
    states = [state.values() for state in found.states.values()]
    assert states
    assert all(bool(value.isfinite().all()) for state in states for value in state)
    assert all(math.isfinite(row["train_loss"]) and math.isfinite(row["test_loss"]) for row in found.rows)
    alike = run(Cell(variant=cell.variant, kind=cell.kind))
    if cell.owners != ALIKE and isinstance(alike, Result):
        is_pooled = cell.variant.method == "centralised" and cell.owners in SIZES  # whoever has a sample
        assert same(alike, found) == is_pooled, f"{cell} is as where owners are alike"
    return YES


def same(a: Result, b: Result) -> bool:
    return all(torch.equal(a.states[label][key], value) for label, s in b.states.items() for key, value in s.items())


def told(cell: Cell) -> set[str]:
    """The entries of the page for a cell: of its method and cut, and of its owners."""
    variants, owners = expected(PAGE)
    variant = cell.variant
    found = {variants[f"`{variant.method}`", variant.cut, variant.servers, cell.kind]}
    return found if cell.owners == ALIKE else found | {owners[cell.owners, cell.kind]}


def check_all(cells: list[Cell], run: Run) -> Mapping[Cell, str]:
    entries = {cell: check(cell, run) for cell in cells}
    wrong = {
        f"{cell.variant}, {cell.kind}, {cell.owners}": entry
        for cell, entry in entries.items()
        if entry not in (told(cell) - {YES} or {YES})
    }
    assert wrong == {}, "run: make pages"
    return entries


@pytest.mark.parametrize("kind", KINDS)
def test_a_combination_trains_or_is_refused_as_the_page_says(kind: str, run: Run) -> None:
    check_all([cell for cell in SOME if cell.kind == kind], run)


@pytest.mark.slow
def test_all_combinations_do_what_the_page_says(run: Run) -> None:
    assert page(check_all(CELLS, run)) == PAGE, "run: make pages"


def test_the_combinations_are_of_all_methods() -> None:
    assert list(dict.fromkeys(variant.method for variant in VARIANTS)) == list(ALGORITHMS)
