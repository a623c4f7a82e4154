"""Read a configuration file and apply ``a.b=c`` overrides, without checking the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raysplit.config.checks import MAX_DEPTH
from raysplit.config.errors import ConfigError
from raysplit.config.texts import config_texts
from raysplit.paths import expanded
from raysplit.plain_yaml import NotYaml, Texts, read, read_value, text_of
from raysplit.registry import clipped, shown

LOCAL_EPOCHS, SGD_RATE = 5, 0.1
"""What a run without a file takes where nothing is said: with these, every method learns the digits in ten rounds."""


def read_tree(path: str | Path | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML file and apply the overrides in order; without a file, as `without_file`. Raises `ConfigError`."""
    tree = _read(path) if path is not None else {}
    for number, override in enumerate(overrides):
        _refuse_lost(override, overrides[:number])
        _apply(tree, override)
    return tree if path is not None else without_file(tree)


def without_file(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run without a file, with a training that learns where they say nothing of it."""
    training = tree.get("training", {})
    if not isinstance(training, Mapping):
        return dict(tree)
    optimizer = training.get("optimizer", {})
    if isinstance(optimizer, Mapping) and optimizer.get("name", "sgd") == "sgd":
        optimizer = {"lr": SGD_RATE, **optimizer}
    return {**tree, "training": {"local_epochs": LOCAL_EPOCHS, **training, "optimizer": optimizer}}


def _read(path: str | Path) -> dict[str, Any]:
    try:
        text = text_of(Path(expanded(str(path))))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {clipped(str(path), 300)}: {_reason(error)}") from error
    try:
        tree = read(text, str(path), config_texts())
    except NotYaml as error:
        raise ConfigError(str(error)) from error
    if tree is not None and not isinstance(tree, dict):
        kind = type(tree).__name__
        raise ConfigError(f"{clipped(str(path), 300)} contains a {kind}; a configuration must be a mapping of sections")
    return tree or {}


def _reason(error: Exception) -> str:
    said = clipped(str(getattr(error, "strerror", None) or error), 500)
    if isinstance(error, FileNotFoundError | UnicodeDecodeError):  # such as the name of a set or a model
        return f"{said}; give a YAML file, and single settings as --set data.name=digits"
    return said


def _refuse_lost(override: str, before: Sequence[str]) -> None:
    """Raise `ConfigError` for an override of a section that undoes one of a setting in it."""
    key = override.partition("=")[0].strip()
    for other in before:
        if other.strip().startswith(f"{key}."):
            raise ConfigError(
                f"override {override!r} replaces all of {key}, with {other!r} before it; give it before that one"
            )


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override {shown(override)} does not have the form section.key=value")
    *sections, leaf = key.strip().split(".")
    if len(sections) > MAX_DEPTH:
        raise ConfigError(f"override {shown(override)} is nested more than {MAX_DEPTH} levels deep")
    node, texts = tree, config_texts()
    for section in sections:
        texts = texts.below(section)
        child = node.get(section)
        if child is None:
            child = node[section] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"override {shown(override)}: {section} is a value, not a section")
        node = child
    node[leaf] = parsed(text, f"override {shown(override)}", texts.below(leaf))


def parsed(text: str, source: str, texts: Texts) -> Any:
    """Read the value of an option as `raysplit.plain_yaml.read_value` does. Raises `ConfigError`."""
    try:
        return read_value(text, source, texts)
    except NotYaml as error:
        raise ConfigError(str(error)) from error
