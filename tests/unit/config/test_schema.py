"""The JSON schema takes every configuration that the program takes, and refuses what a person misspells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import shell
from documented import EXAMPLES
from jsonschema import Draft202012Validator

from raysplit.algorithms import ALGORITHMS
from raysplit.config.editors.schema import schema
from raysplit.config.run import RunConfig, check_config, resolved
from raysplit.plain_yaml import read

TEMPLATES = Path(__file__).parents[3] / "raysplit" / "templates"
FILES = [*sorted(EXAMPLES.glob("*.yaml")), *sorted(TEMPLATES.glob("*/config.yaml.jinja"))]


@pytest.fixture(scope="module")
def checked() -> Draft202012Validator:
    Draft202012Validator.check_schema(schema())
    return Draft202012Validator(schema())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(path.parents[1]).as_posix())
def test_every_example_is_valid(checked: Draft202012Validator, path: Path) -> None:
    checked.validate(read(path.read_text(encoding="utf-8"), path.name))


OF_TASKS = {"mtl_split", "all_in_one", "one_by_one", "tag", "hoa", "mas"}
"""Algorithms whose data have several tasks."""


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_a_run_folder_keeps_is_valid(checked: Draft202012Validator, name: str) -> None:
    """With all options of the algorithm."""
    tree: dict[str, Any] = {"algorithm": {"name": name, **({"cuts": [1, 3]} if name == "mpsl" else {})}}
    if name in OF_TASKS:
        model, owners = ("multi_task", 1) if name == "mtl_split" else ("mas", 10)
        tree |= {"training": {"loss": "task_sum", "rounds": 40}, "model": {"name": model}}
        tree |= {"partition": {"num_owners": owners}}
    config = resolved(check_config(tree))
    checked.validate(json.loads(json.dumps(config.model_dump(mode="json"))))


@pytest.mark.parametrize(
    "right",
    [
        {},
        {"data": {"name": "mine.npz"}},
        {"data": {"name": "text:python_topics"}},
        {"data": {"name": "mydata:load", "spread": 0.3}},
        {"algorithm": {"name": "mine:Method", "pull": 0.3}},
        {"algorithm": {"name": "fedavg", "cut": 3}},
        {"task": "regression"},
        {"task": {"kind": "regression"}},
        {"links": "auto"},
        {"links": {"smashed": ["int4", "zstd"]}},
        {"output": {"trackers": ["tensorboard", {"name": "mlflow", "uri": "mlruns"}]}},
    ],
    ids=str,
)
def test_short_forms_are_valid(checked: Draft202012Validator, right: dict[str, Any]) -> None:
    checked.validate(right)


WRONG: dict[str, dict[str, Any]] = {
    "a section": {"trainning": {}},
    "a key": {"training": {"rouns": 3}},
    "a bound": {"training": {"rounds": 0}},
    "a type": {"training": {"batch_size": "many"}},
    "an algorithm": {"algorithm": {"name": "fedavgg"}},
    "an option": {"algorithm": {"name": "fedavg", "cutt": 1}},
    "an option of the default": {"algorithm": {"cut": {}}},
    "the type of an option": {"algorithm": {"name": "mpsl", "cuts": 3.5}},
    "a model": {"model": {"name": "cnn9"}},
    "a data set": {"data": {"name": "digitz"}},
    "a partition": {"partition": {"name": "dirichlt"}},
    "a loss": {"training": {"loss": "cross_entrpy"}},
    "a task": {"task": "clasification"},
    "a place": {"cluster": {"kind": "slurm"}},
    "a list": {"evaluation": {"targets": 0.9}},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_mistakes_are_refused_by_both(checked: Draft202012Validator, wrong: dict[str, Any]) -> None:
    assert not checked.is_valid(wrong)
    with pytest.raises(ValueError):
        check_config(wrong).algorithm.resolved_options()


def test_every_setting_has_its_meaning() -> None:
    kinds = schema()["$defs"]
    sections = [name for name in kinds if name.endswith(("Config", "Options", "Rules"))]
    assert len(sections) > 10
    bare = [f"{name}.{key}" for name in sections for key, field in kinds[name]["properties"].items() if len(field) < 2]
    assert bare == []
    described = schema()["$defs"]["TrainingConfig"]["properties"]["rounds"]
    assert described["description"] == "Number of rounds; the algorithm defines what a round does."
    assert set(schema()["properties"]) == set(RunConfig.model_fields)


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "raysplit.schema.json"
    code, out, _ = shell(capsys, "schema", "--output", path)
    assert (code, json.loads(path.read_text())) == (0, schema())
    assert "# yaml-language-server: $schema=raysplit.schema.json" in out
    code, out, _ = shell(capsys, "schema")
    assert json.loads(out) == schema()
