"""Whatever a configuration holds, the answer is a configuration that says the same, or a `ConfigError`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fuzzing import amounts, fuzz, read_or_refused
from strategies.configurations import overrides, trees, yaml_texts

from raysplit.config.overrides import read_tree
from raysplit.config.run import ConfigError, RunConfig, check_config, dump_config, load_config


def says_the_same(config: RunConfig, tree: Any) -> None:
    """Assert that a configuration reads back from its file, and has the numbers and words of the tree."""
    assert load_text(dump_config(config)) == config
    dumped = config.model_dump(mode="json")
    for key, given in tree.items():
        _same(given, dumped[key], key)


def load_text(text: str) -> RunConfig:
    from raysplit.config.texts import config_texts
    from raysplit.plain_yaml import read

    return check_config(read(text, "the file", config_texts()), recorded=True)


def _same(given: Any, found: Any, where: str) -> None:
    if isinstance(given, dict) and isinstance(found, dict):
        for key, value in given.items():
            if str(key) in found:
                _same(value, found[str(key)], f"{where}.{key}")
    elif isinstance(given, bool):
        assert isinstance(found, bool), f"{where} was {given!r} and is {found!r}"
    elif _kind(given) == _kind(found) and not (isinstance(given, str) and set(given) & set("~$")):
        assert given == found, f"{where} was {given!r} and is {found!r}"


def _kind(value: Any) -> str:
    return "number" if isinstance(value, int | float) else type(value).__name__


@amounts
def test_trees(share: float, record_property: Any) -> None:
    def check(tree: Any) -> None:
        config = read_or_refused(lambda: check_config(tree), errors=(ConfigError,))
        if config is not None:
            says_the_same(config, tree)

    fuzz(trees, check, inputs=round(4_000 * share), record=record_property)


@amounts
def test_texts_of_files(share: float, record_property: Any, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"

    def check(text: str) -> None:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        config = read_or_refused(lambda: load_config(path), errors=(ConfigError,))
        if config is not None:
            says_the_same(config, read_tree(path))

    fuzz(yaml_texts(), check, inputs=round(3_000 * share), record=record_property)


@amounts
def test_texts_of_options(share: float, record_property: Any) -> None:
    def check(text: str) -> None:
        config = read_or_refused(lambda: load_config(None, [text]), errors=(ConfigError,))
        if config is not None:
            says_the_same(config, read_tree(None, [text]))

    fuzz(overrides(), check, inputs=round(3_000 * share), record=record_property)
