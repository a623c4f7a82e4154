"""Every page's code runs as it stands there, and every command that a page names is one with these options."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from documented import DOCS, EXAMPLES, page, run_page, sections

from raysplit.cli.main import cli

TESTED_ELSEWHERE = {"python", "own-parts", "getting-started"}
"""Pages with tests of their own; `own-parts` are modules, which tests of algorithms and commands write."""
FRAGMENTS = {"links", "reliability", "run-folder"}
"""Pages whose code is lines out of a program that is not there."""

PATHS = [path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md")]
PAGES = sorted(path.as_posix() for path in PATHS if path.parts[0] != "_build")
RUN_HERE = [name for name in PAGES if name not in TESTED_ELSEWHERE | FRAGMENTS and sections(name)]
TEXTS = [*(DOCS / f"{name}.md" for name in PAGES), *(DOCS.parent / f"{name}.md" for name in ("README", "CONTRIBUTING"))]


@pytest.fixture(autouse=True)
def _beside_the_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("examples").symlink_to(EXAMPLES)


SLOW = {"notebooks/compare-methods"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in RUN_HERE]
)
def test_the_code_of_a_page_runs(name: str) -> None:
    assert run_page(name)


def test_one_page_leads_to_a_model_of_ones_own(record_property: Callable[[str, object], None]) -> None:
    """Who follows "Getting started" has a model of their own, trained on their data, after five blocks and a minute."""
    start = time.perf_counter()
    found = run_page("getting-started")
    record_property("seconds", round(time.perf_counter() - start, 1))
    blocks = [
        block for name, found in sections("getting-started").items() if name != "Where to go on" for block in found
    ]
    own = [block for block in blocks if "mine" in block or "Net" in block or "data =" in block]
    assert len(own) <= 5
    assert sum(block.count("\n") for block in own) < 45  # lines to write, or to copy
    assert time.perf_counter() - start < 60
    assert type(found["mine"].model()) is found["Net"]
    right = found["classes"].numpy() == found["y"][480:]
    assert right.mean() == pytest.approx(found["mine"].accuracy)
    assert Path("runs/mine/model.pt").exists()


def test_each_method_has_code_that_runs() -> None:
    assert {name for name in PAGES if name.startswith("methods/")} <= set(RUN_HERE)


def test_code_of_the_repository_is_shown_where_it_is() -> None:
    """A page names what it shows by import path; the site's own code puts the text there."""
    shown = re.findall(r"^```\{code\} (\S+)\n```$", "".join(page(name) for name in PAGES), re.MULTILINE)
    assert len(shown) >= 8
    assert all(name.startswith("raysplit.algorithms.") for name in shown)


def told_commands() -> Iterator[tuple[str, list[str]]]:
    """The commands that pages show as lines of their own, with the file."""
    for path in TEXTS:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^(?:    |# )(raysplit [^\n]*)$", text, re.MULTILINE):
            yield path.name, shlex.split(line, comments=True)[1:]


def unknown(arguments: list[str]) -> str:
    """What of a command line the command does not know; empty where it knows everything."""
    command: click.Command = cli
    words = iter(arguments)
    while isinstance(command, click.Group):
        name = next((word for word in words if not word.startswith("-")), None)
        if name is None:
            return ""
        inner = command.get_command(click.Context(command), name)
        if inner is None:
            return f"command {name}"
        command = inner
    known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
    used = {word.partition("=")[0] for word in words if word.startswith("--")}
    return " ".join(sorted(used - known - {"--help"}))


def test_commands_of_pages_are_known() -> None:
    lines = list(told_commands())
    assert len(lines) > 50
    assert not [f"{name}: {found}" for name, arguments in lines if (found := unknown(arguments))]


@pytest.mark.parametrize("line", ["trian my.yaml", "train --nam x", "cluster upp lab.yaml"])
def test_a_misspelt_command_is_found(line: str) -> None:
    assert unknown(line.split())
