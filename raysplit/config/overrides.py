"""Read a configuration file and apply ``a.b=c`` overrides, without checking the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raysplit.config.errors import ConfigError
from raysplit.config.texts import config_texts
from raysplit.paths import expanded
from raysplit.plain_yaml import NotYaml, Texts, read, read_value

LOCAL_EPOCHS, SGD_RATE = 5, 0.1
"""What a run without a file takes where nothing is said: with these, every method learns the digits in ten rounds."""


def read_tree(path: str | Path | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML file and apply the overrides in order; without a file, as `without_file`. Raises `ConfigError`."""
    tree = _read(path) if path is not None else {}
    for override in overrides:
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
        text = Path(expanded(str(path))).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        tree = read(text, str(path), config_texts())
    except NotYaml as error:
        raise ConfigError(str(error)) from error
    if tree is not None and not isinstance(tree, dict):
        raise ConfigError(f"{path} contains a {type(tree).__name__}; a configuration must be a mapping of sections")
    return tree or {}


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override {override!r} does not have the form section.key=value")
    *sections, leaf = key.strip().split(".")
    node, texts = tree, config_texts()
    for section in sections:
        texts = texts.below(section)
        child = node.get(section)
        if child is None:
            child = node[section] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"override {override!r}: {section} is a value, not a section")
        node = child
    node[leaf] = parsed(text, f"override {override!r}", texts.below(leaf))


def parsed(text: str, source: str, texts: Texts) -> Any:
    """Read the value of an option as `raysplit.plain_yaml.read_value` does. Raises `ConfigError`."""
    try:
        return read_value(text, source, texts)
    except NotYaml as error:
        raise ConfigError(str(error)) from error
