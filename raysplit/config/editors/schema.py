"""The JSON schema of a configuration, with the meaning of every setting.

Pydantic makes it from the classes that check a configuration. Added here is what these classes take beside their
fields: short forms, names with their import paths, and the options of the built-in algorithms. What the schema refuses
is wrong for the program, too; the program checks more, such as how settings fit one another and the data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from raysplit.actors.parts.losses import LOSSES
from raysplit.algorithms import ALGORITHMS
from raysplit.config.run import RunConfig
from raysplit.data.datasets import dataset_names
from raysplit.data.partition.laws import partition_names
from raysplit.experiment.links import AUTO
from raysplit.models.zoo import model_names
from raysplit.paths import FILE_SUFFIXES
from raysplit.tasks import KINDS

Json = dict[str, Any]
_PATH = ":"
_FILE = rf"({'|'.join(re.escape(suffix) for suffix in FILE_SUFFIXES)})$"


def schema() -> Json:
    """Return the schema, as plain data for JSON."""
    whole: Json = _tidy(RunConfig.model_json_schema())
    kinds = whole["$defs"]
    sections = whole["properties"]
    _name(kinds["ModelConfig"], model_names(), _PATH)
    _name(kinds["DataConfig"], dataset_names(), f"{_PATH}|{_FILE}|\\$")
    _name(kinds["PartitionConfig"], partition_names(), _PATH)
    _name(kinds["AlgorithmConfig"], ALGORITHMS, _PATH)
    _name(kinds["TrainingConfig"], LOSSES, _PATH, key="loss")
    _add_options(kinds)
    _add_bandwidth(kinds["DeviceOptions"])
    sections["task"]["anyOf"].insert(0, {"enum": list(KINDS), "description": "The kind of the task alone."})
    _add_short_tasks(kinds)
    sections["links"] = {"anyOf": [{"const": AUTO}, sections.pop("links")]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "raysplit configuration",
        **{key: value for key, value in whole.items() if key != "title"},
    }


def _tidy(found: Any) -> Any:
    """Return a schema without titles, which repeat the keys, and with descriptions as editors show them."""
    if isinstance(found, list):
        return [_tidy(each) for each in found]
    if not isinstance(found, Mapping):
        return found
    named = ("properties", "$defs")  # their keys are names of settings
    return {
        key: {name: _tidy(each) for name, each in value.items()} if key in named else _text_of(key, value)
        for key, value in found.items()
        if not (key == "title" and isinstance(value, str))
    }


def _text_of(key: str, value: Any) -> Any:
    if key == "description" and isinstance(value, str):
        return re.sub(r"\bNone\b", "null", " ".join(value.split())).replace("``", "`")
    return value if key == "default" else _tidy(value)


def _name(section: Json, names: Iterable[str], other: str, *, key: str = "name") -> None:
    """Let a text be one of the names, which an editor completes, or match a pattern such as that of an import path."""
    field = section["properties"][key]
    del field["type"]
    field["anyOf"] = [{"enum": list(names)}, {"type": "string", "pattern": other}]


def _add_short_tasks(kinds: Json) -> None:
    """Let the kind stand alone for the task of a target, and one name for the tasks of an owner."""
    by_target = kinds["DataConfig"]["properties"]["tasks"]["anyOf"][0]
    by_target["additionalProperties"] = {"anyOf": [{"enum": list(KINDS)}, by_target["additionalProperties"]]}
    of_owners = kinds["OwnersConfig"]["properties"]["tasks"]
    for form, key in zip(of_owners["anyOf"], ("additionalProperties", "items"), strict=True):
        form[key] = {"anyOf": [{"type": "string"}, form[key]]}


def _add_options(kinds: Json) -> None:
    """Describe the options of each built-in algorithm for a section with its name; those of others are left out."""
    known: set[str] = {"name"}
    section = kinds["AlgorithmConfig"]
    section["allOf"] = []
    for name, algorithm in ALGORITHMS.items():
        options = _tidy(algorithm.options_type.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}"))
        kinds |= {f"{name}.{key}": value for key, value in options.pop("$defs", {}).items()}
        known |= options.get("properties", {}).keys()
        is_it: Json = {"properties": {"name": {"const": name}}}
        if name != section["properties"]["name"]["default"]:
            is_it["required"] = ["name"]
        section["allOf"].append({"if": is_it, "then": {"properties": options.get("properties", {})}})
    is_own = {"properties": {"name": {"type": "string", "pattern": _PATH}}, "required": ["name"]}
    section["allOf"].append({"if": {"not": is_own}, "then": {"propertyNames": {"enum": sorted(known)}}})


def _add_bandwidth(device: Json) -> None:
    """Add the key that stands for both directions of a device's link."""
    both = {"description": "Bandwidth in both directions in Mbit/s.", "type": "number", "exclusiveMinimum": 0}
    device["properties"]["bandwidth_mbit_per_s"] = both
