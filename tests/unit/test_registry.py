"""Names and import paths that a user writes, and what the error says of each kind of mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raysplit.actors.parts.losses import mse, resolve_loss
from raysplit.registry import imported, imported_class, known, nearest, one_of, resolve


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a module on the Python path, under a name that no other test uses."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")

    return write


NAMES = ("FashionMNIST", "MNIST", "digits")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("fashion_mnist", "; did you mean 'FashionMNIST'?"),
        ("mnist", "; did you mean 'MNIST'?"),
        ("qqqq", ""),
        ("", ""),
    ],
)
def test_the_nearest_name_whatever_its_case(value: str, text: str) -> None:
    assert nearest(value, NAMES) == text


def test_one_of_the_names_or_an_import_path() -> None:
    assert one_of("data set", "MNIST", iter(NAMES)) == "MNIST"
    assert known("data set", "mine:load", NAMES) == "mine:load"
    with pytest.raises(
        ValueError, match=r"^unknown data set 'diggits'; did you mean 'digits'\? \(one of Fash.*, digits\)$"
    ):
        one_of("data set", "diggits", NAMES)
    with pytest.raises(ValueError, match=r"^unknown data set 'x' \(one of .*, digits, package.module:name\)$"):
        known("data set", "x", NAMES)


def test_what_an_import_path_names() -> None:
    import numpy as np

    assert imported("loss", "numpy:allclose") is np.allclose
    assert imported("loss", "numpy.linalg:norm") is np.linalg.norm
    assert imported("loss", "numpy:ndarray.sum") is np.ndarray.sum
    assert imported_class("loss", "numpy.linalg:LinAlgError", ValueError) is np.linalg.LinAlgError
    assert resolve("loss", "mine", {"mine": np.allclose}) is np.allclose
    assert resolve("loss", "numpy:allclose", {}) is np.allclose


@pytest.mark.parametrize(
    "path", ["subprocess:check_output", "sys:exit", "os:system", "os.path:join", "builtins:exec", "shutil:rmtree"]
)
def test_the_standard_library_has_no_parts_of_a_run(path: str, written: Callable[[str, str], None]) -> None:
    """``data: {name: 'subprocess:check_output', ...}`` ran a shell command, and ``sys:exit`` ended a run with 0."""
    with pytest.raises(ValueError, match=rf"data set '{path}' is a part of Python's standard library"):
        imported("data set", path)
    written("passes_it_on", "import os, sys, builtins, shutil, subprocess")
    with pytest.raises(ValueError, match="is a part of Python's standard library"):
        imported("data set", f"passes_it_on:{path.replace(':', '.')}")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("json", r"loss 'json' is not an import path; write \"package.module:name\""),
        ("json:", r"loss 'json:' is not an import path"),
        (":loads", r"loss ':loads' is not an import path"),
        ("..json:loads", r"loss '..json:loads': '..json' is not a module name"),
        ("my module:loads", r"'my module' is not a module name"),
        (
            "no_such_module_xyz:f",
            r"there is no module 'no_such_module_xyz'; put it in the working directory or on PYTHONPATH",
        ),
        ("yaml.no_such_part:f", r"there is no module 'yaml.no_such_part'"),
        ("no_such_package_xyz.part:f", r"there is no module 'no_such_package_xyz'"),
        ("yaml:safe_lod", r"module 'yaml' has no name 'safe_lod'; did you mean 'safe_load'\? \(it has AliasEvent, "),
        ("yaml:SafeLoader.gone", r"module 'yaml' has no name 'SafeLoader.gone'"),
        ("yaml:lo ad", r"module 'yaml' has no name 'lo ad'; did you mean 'load'\?"),
        ("yaml:__version__", r"loss 'yaml:__version__' must be a function or a class, got str '"),
    ],
)
def test_a_wrong_import_path_says_what_is_wrong(path: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        imported("loss", path)


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("wrong_name_m", "x = 1\ny = z\n", r"NameError: name 'z' is not defined \(wrong_name_m.py, line 2\)"),
        ("wrong_syntax_m", "def f(:\n", r"SyntaxError: .*wrong_syntax_m.py, line 1\); fix the module"),
        ("wrong_need_m", "import no_such_xyz\n", r"ModuleNotFoundError: No module named 'no_such_xyz' \(wrong_need_m"),
        ("wrong_part_m", "from json import gone\n", r"ImportError: cannot import name 'gone' from 'json'"),
        ("wrong_attribute_m", "import json\njson.gone\n", r"AttributeError: module 'json' has no attribute 'gone'"),
        ("wrong_exit_m", "raise SystemExit('done')\n", r"SystemExit: done \(wrong_exit_m.py, line 1\)"),
    ],
)
def test_a_module_that_fails_to_import_shows_its_own_error(
    written: Callable[[str, str], None], name: str, source: str, says: str
) -> None:
    written(name, source)
    with pytest.raises(ValueError, match=rf"^model '{name}:f': module '{name}' fails to import: {says}"):
        imported("model", f"{name}:f")


@pytest.mark.parametrize(
    ("path", "got"),
    [("yaml:safe_load", "got function <function safe_load"), ("yaml:SafeLoader", "got the class SafeLoader")],
)
def test_a_class_of_another_kind_is_refused_with_what_was_expected(path: str, got: str) -> None:
    with pytest.raises(ValueError, match=f"^codec '{path}' must be a subclass of builtins.dict, {got}"):
        imported_class("codec", path, dict)


def test_losses_by_name_and_import_path(written: Callable[[str, str], None]) -> None:
    written("own_losses_m", "def absolute(output, y):\n    return (output - y).abs().mean()\n")
    assert resolve_loss("mse") is mse
    assert resolve_loss("own_losses_m:absolute").__name__ == "absolute"
    with pytest.raises(ValueError, match=r"unknown loss 'mes'; did you mean 'mse'\? \(one of cross_entropy, mse, "):
        resolve_loss("mes")
    with pytest.raises(ValueError, match="loss 'own_losses_m:gone': module 'own_losses_m' has no name 'gone'"):
        resolve_loss("own_losses_m:gone")
