"""The page ``docs/matrix.md``, made from what the cells of `combinations` do; ``python -m`` prints it."""

from __future__ import annotations

import logging
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from combinations import ALIKE, CELLS, KINDS, OWNERS, VARIANTS, Cell, Variant, outcome, settings, write_shards

YES = "yes"
REASONS = {
    r"needs all samples at once": "each owner reads its own file (`data.name: shards`), and the method needs all "
    "samples in one place",
    r"has a decoder for each dense task and stays whole": "a model with a decoder per dense task is not cut",
    r"got the cuts .* for a model of": "a multi-task classifier is cut after its backbone and between its heads, so "
    "`algorithm.cut` is `auto` or 0, and there is no last part for the owner",
    r"cuts .* must rise and start at 1": "the owner keeps the layers that take its samples, so `algorithm.cuts` begins "
    "at 1 or later",
    r"FedEM weights each sample": "FedEM weights samples by the likelihood of their one label",
    r"trains with cross_entropy or any task only": "FedEM weights samples by the likelihood of their one label",
    r"MTL-Split trains the heads": "MTL-Split trains the heads of `model.name: multi_task`, which takes data with "
    "several labels per picture",
    r"trains a model with several tasks": "the method divides dense tasks among models (`model.name: mas`)",
    r"owners\.label_noise flips class labels": "dense targets have no classes to flip",
    r"owners\.label_noise is .* read their own files": "labels in the owners' own files stay as they are",
}
"""What the messages of refusals match, and what the page says of them."""
TEXTS = list(dict.fromkeys(REASONS.values()))

_INTRODUCTION = """# What trains with what

Each combination of a method, a kind of data, a cut at either end, one or two servers and owners that differ either
trains or is refused before anything starts, with the setting and the way out. A test runs all of them; the tables are
made from it by `make pages`. The numbers are those of the reasons below.

The kinds of data: one class label per sample, several labels per picture (`model.name: multi_task`), dense tasks such
as depth (`model.name: mas`), and files that only their owners read (`data.name: shards`).

## Methods and cuts
"""
_OWNERS = """
The model for one label, and for streamed files, has three units; where nothing of it is at the owner,
`model.send_inputs` lets the samples leave. The model for several labels has other cuts: at 0 its backbone stays at the
owner.

## Owners that differ

With every method that trains on the kind of data above, and at every cut of it:
"""
_REASONS = """
An owner with one sample needs a model without [batch norm](batch-norm.md), or one that normalizes over pixels too.
MTL-Split has one owner, so that no sizes differ. A setting that a method does not use is refused as well:
[settings and methods](configuration.md#settings-and-methods).

## Reasons
"""


def entry_of(message: str) -> str:
    """Return the number of the reason that a message of a refusal gives. Raises ``KeyError`` for an unknown one."""
    found = [text for pattern, text in REASONS.items() if re.search(pattern, message)]
    if not found:
        raise KeyError(message)
    return str(TEXTS.index(found[0]) + 1)


def page(entries: Mapping[Cell, str]) -> str:
    """Return the page: of each cell `YES` or the number of a reason.

    Raises ``ValueError`` if what owners' options do depends on more than the kind of data.
    """
    head = ["method", "cut", "servers"]
    lines = [_INTRODUCTION, *_table([*head, *KINDS], [_row(variant, entries) for variant in VARIANTS])]
    rows = [[owners, *(_entry(kind, owners, entries) for kind in KINDS)] for owners in OWNERS if owners != ALIKE]
    lines += [_OWNERS, *_table(["owners", *KINDS], rows)]
    lines += [_REASONS, *(f"{number}. {text[0].upper()}{text[1:]}." for number, text in enumerate(TEXTS, start=1)), ""]
    return "\n".join(lines)


def _row(variant: Variant, entries: Mapping[Cell, str]) -> list[str]:
    found = [entries[Cell(variant=variant, kind=kind)] for kind in KINDS]
    return [f"`{variant.method}`", variant.cut, variant.servers, *found]


def _entry(kind: str, owners: str, entries: Mapping[Cell, str]) -> str:
    found = {
        entry
        for cell, entry in entries.items()
        if (cell.kind, cell.owners) == (kind, owners) and entries[Cell(variant=cell.variant, kind=kind)] == YES
    }
    if len(found) != 1:
        raise ValueError(f"{owners} with {kind} has the entries {found}, which one cell of the table cannot show")
    return found.pop()


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def expected(text: str) -> tuple[dict[tuple[str, ...], str], dict[tuple[str, ...], str]]:
    """Return the entries of a page: by method, cut, servers and kind, and by owners and kind."""
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("|")]
    both: tuple[dict[tuple[str, ...], str], dict[tuple[str, ...], str]] = ({}, {})
    for row in rows:
        named = len(row) - len(KINDS)
        found = both[named == 1]
        found |= {(*row[:named], kind): entry for kind, entry in zip(KINDS, row[named:], strict=True)}
    return both


def made() -> str:
    """Run all cells and return the page."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(Path(folder))
        found = {cell: outcome(settings(cell, shards)) for cell in CELLS}
    return page({cell: entry_of(it) if isinstance(it, str) else YES for cell, it in found.items()})


if __name__ == "__main__":
    sys.stdout.write(made())
