"""Run folders that anything may have happened to: each file is read as it was written, or named as damaged.

Commands on 647 edited folders once ended in 119 tracebacks; ``{}`` as one summary hid all runs of a list.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from fuzzing import amounts, fuzz
from hypothesis import strategies as st

from raysplit.cli.main import cli
from raysplit.config.run import load_recorded
from raysplit.runs.listing import listing
from raysplit.runs.records.origin import effects_of, require_own
from raysplit.runs.records.read import read_models, read_settings
from raysplit.runs.report import as_json, readable_runs
from raysplit.runs.report_page import page

OLD = Path(__file__).parents[3] / "data" / "runs_0_1"
TREES = ("config.yaml", "summary.json", "environment.json", "metrics.jsonl")
FILES = (*TREES, "traffic.parquet", "model.pt")

_LEAF = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from([10**400, -1, "1e999", "sys:exit", "../..", "\x1b[2J", "[/x]", "\u202e", "é" * 300]),
)  # fmt: skip
_VALUE = st.recursive(_LEAF, lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(max_size=4), of, max_size=3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(OLD / "minibatch_sfl", tmp_path_factory.mktemp("runs") / "x"))


def nodes(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container in a tree with each of its keys or indices."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from nodes(tree[key])


def edited(tree: Any, data: st.DataObject) -> Any:
    """Return a tree with one value replaced or removed, or another tree altogether."""
    tree = {"": copy.deepcopy(tree)}
    container, key = data.draw(st.sampled_from(list(nodes(tree))))
    if key and data.draw(st.booleans()):
        del container[key]
    else:
        container[key] = data.draw(_VALUE)
    return tree[""]


def spoilt(name: str, content: bytes, data: st.DataObject) -> bytes:
    """Return the content of a file cut short, with a bit flipped, replaced, or as a tree that was edited."""
    kinds = ["cut", "flip", "replace", *(["tree"] * 3 if name in TREES else [])]
    kind, at = data.draw(st.sampled_from(kinds)), data.draw(st.integers(0, len(content) - 1))
    if kind == "cut":
        return content[:at]
    if kind == "flip":
        return content[:at] + bytes([content[at] ^ (1 << data.draw(st.integers(0, 7)))]) + content[at + 1 :]
    if kind == "replace":
        return data.draw(st.binary(max_size=40))
    if name == "config.yaml":
        return yaml.dump(edited(yaml.safe_load(content), data), allow_unicode=True).encode("utf-8", "surrogatepass")
    if name == "metrics.jsonl":
        lines = edited([json.loads(line) for line in content.splitlines()], data)
        return "".join(json.dumps(line) + "\n" for line in (lines if isinstance(lines, list) else [lines])).encode()
    return json.dumps(edited(json.loads(content), data)).encode()


def refused_at_most(read: Callable[[], Any]) -> Any:
    """Call a reader; whatever it raises must be a ``ValueError`` with a message, as for any mistake of a user."""
    try:
        return read()
    except ValueError as error:
        message = str(error)
    assert message.strip()
    return None


def read_all(folder: Path) -> None:
    entry = listing("x", "x", folder)
    json.dumps(entry.as_json())
    found = refused_at_most(lambda: readable_runs([folder]))
    if found:
        json.dumps([as_json(run, 0.5) for run in found[0]])
        page(found[0], None, 0.5, found[1])
    tree = refused_at_most(lambda: read_settings(folder))
    if tree is not None:
        str(effects_of(tree))
    refused_at_most(lambda: require_own(folder, "resume"))
    refused_at_most(lambda: read_models(folder))


def with_a_spoilt_file(folder: Path, data: st.DataObject, work: Callable[[Path], None]) -> None:
    name = data.draw(st.sampled_from(FILES))
    path = folder / name
    before = path.read_bytes()
    try:
        path.write_bytes(spoilt(name, before, data))
        work(folder)
    finally:
        path.write_bytes(before)


@amounts
def test_a_spoilt_file_is_read_or_named(folder: Path, share: float, record_property: Any) -> None:
    def check(data: st.DataObject) -> None:
        with_a_spoilt_file(folder, data, read_all)

    fuzz(st.data(), check, inputs=round(3_000 * share), record=record_property)


def ended_well(folder: Path) -> None:
    page_path = folder.parent / "page.md"
    for command in (["list", "--root", folder.parent], ["show", folder], ["compare", folder], ["report", folder]):
        more = {"compare": ["--figure", folder.parent / "a.png"], "report": ["--output", page_path]}
        arguments = [str(argument) for argument in [*command, *more.get(str(command[0]), [])]]
        found = CliRunner().invoke(cli, arguments)
        assert found.exit_code == 0 or isinstance(found.exception, ValueError), (arguments, found.exception)
        assert command[0] in ("compare", "report", "show") or found.exit_code == 0


@amounts
def test_commands_on_a_spoilt_file(folder: Path, share: float, record_property: Any) -> None:
    def check(data: st.DataObject) -> None:
        with_a_spoilt_file(folder, data, ended_well)

    fuzz(st.data(), check, inputs=round(300 * share), record=record_property)


def config_only(folder: Path, data: st.DataObject) -> None:
    path = folder / "config.yaml"
    before = path.read_bytes()
    try:
        path.write_bytes(spoilt(path.name, before, data))
        refused_at_most(lambda: load_recorded(folder))
    finally:
        path.write_bytes(before)


@amounts
def test_a_spoilt_configuration_is_refused_with_a_message(folder: Path, share: float, record_property: Any) -> None:
    def check(data: st.DataObject) -> None:
        config_only(folder, data)

    fuzz(st.data(), check, inputs=round(3_000 * share), record=record_property)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    """A pipe in the place of a file would have blocked the list for ever."""
    import os

    folder = Path(shutil.copytree(OLD / "minibatch_sfl", tmp_path / "x"))
    for name in ("summary.json", "metrics.jsonl", "config.yaml"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        assert "is damaged: it is not a file" in listing("x", "x", folder).state
        (folder / name).unlink()
        (folder / name).mkdir()
        assert "is damaged: it is not a file" in listing("x", "x", folder).state
        shutil.rmtree(folder / name)
        shutil.copy(OLD / "minibatch_sfl" / name, folder)
