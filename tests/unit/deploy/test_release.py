"""What is released: one version everywhere, a wheel that runs outside of the sources, and what it was tested with."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from documented import DOCS

import raysplit

ROOT = DOCS.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SBOM = runpy.run_path(str(ROOT / "deploy" / "sbom.py"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_there_is_one_version() -> None:
    """The package names it; whatever else has it is held to it."""
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "raysplit.__version__"}
    newest = re.search(r"^## \[(\S+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == raysplit.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == raysplit.__version__
    images = [
        re.findall(r"raysplit:(\d[\w.]*)", path.read_text()) for path in (ROOT / "deploy").iterdir() if path.is_file()
    ]
    assert {version for found in images for version in found} == {raysplit.__version__}


def test_the_citation_has_what_its_format_asks_for() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == PROJECT["project"]["license"]


def test_the_image_is_of_the_wheel_and_the_pinned_torch() -> None:
    """The image installs what `make dist` makes, beside the torch of the lock; nothing names a package index."""
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    (copied,) = re.findall(r"^COPY (\S+) /tmp/raysplit/$", text, re.MULTILINE)
    assert fnmatch(f"raysplit-{raysplit.__version__}-py3-none-any.whl", copied)
    pinned = {pin for pin in LOCK.splitlines() if re.match(r"torch(vision)?==", pin)}
    assert set(re.findall(r"\btorch(?:vision)?==\S+", text)) == {pin.partition(" ")[0] for pin in pinned}
    assert "http" not in re.sub(r"^#.*$", "", text, flags=re.MULTILINE)


def files_of_the_package() -> set[str]:
    """Everything below raysplit/ that is no cache."""
    paths = (path for path in (ROOT / "raysplit").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in paths}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of wheel and sdist, built from a copy of the sources; the wheel is built from the sdist."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("release")
    (folder / "sources").mkdir()
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder / "sources" / path.name)
    for name in ("deploy", "docs", "examples", "raysplit", "tests"):
        left_out = shutil.ignore_patterns("__pycache__", "_build")
        shutil.copytree(ROOT / name, folder / "sources" / name, ignore=left_out)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "sources"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    yield folder / "dist"
    shutil.rmtree(folder)


@pytest.mark.slow
def test_wheel_and_sdist_have_every_file(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"raysplit-{raysplit.__version__}-py3-none-any.whl"
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith("raysplit-")}
    assert inside == files_of_the_package()
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    others = {
        "README.md",
        "LICENSE",
        "CITATION.cff",
        "Makefile",
        "docs/index.md",
        "examples/train.py",
        "tests/conftest.py",
    }
    assert files_of_the_package() | others <= names


@pytest.mark.slow
def test_the_wheel_runs_outside_of_the_sources(built: Path, tmp_path: Path) -> None:
    """In an environment of its own beside the packages that are here: version, profiles in the package, a training."""
    home = tmp_path / "venv"
    venv.create(home, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    here = [entry for entry in sys.path if entry.endswith("site-packages")]
    (site / "others.pth").write_text("\n".join(here) + "\n")  # after what is installed here; no .pth of theirs is read
    (wheel,) = built.glob("*.whl")
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", wheel]
    subprocess.run([sys.executable, "-m", "pip", "--python", home / "bin" / "python", *install], check=True)
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}

    def printed(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    assert printed(str(home / "bin" / "raysplit"), "--version").strip() == f"raysplit, version {raysplit.__version__}"
    code = "import raysplit, importlib.metadata as m; print(raysplit.__file__, m.version('raysplit'))"
    where, version = printed(str(home / "bin" / "python"), "-c", code).split()
    assert Path(where).is_relative_to(home)
    assert version == raysplit.__version__
    settings = ["model.name=mlp", "cluster.kind=local", "training.rounds=1", "training.max_steps=2"]
    options = [part for setting in settings for part in ("--set", setting)]
    printed(str(home / "bin" / "raysplit"), "train", "--name", "first", *options)
    assert (tmp_path / "runs" / "first" / "model.pt").exists()
    testbed = ROOT / "examples" / "mpsl_simulate.yaml"  # whose profiles are files of the package
    assert "s" in printed(str(home / "bin" / "raysplit"), "simulate", str(testbed), "--owners", "2")


_PACKAGE: dict[str, Any] = {
    "type": "object",
    "required": ["type", "bom-ref", "name", "version", "purl"],
    "additionalProperties": False,
    "properties": {
        "type": {"const": "library"},
        "bom-ref": {"type": "string", "pattern": "^pkg:pypi/[a-z0-9.-]+@[A-Za-z0-9.+!-]+$"},
        "name": {"type": "string", "pattern": "^[a-z0-9.-]+$"},
        "version": {"type": "string", "minLength": 1},
        "purl": {"type": "string", "pattern": "^pkg:pypi/"},
        "licenses": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["license"],
                "properties": {
                    "license": {
                        "type": "object",
                        "properties": {"id": {"type": "string"}, "name": {"type": "string", "minLength": 1}},
                        "additionalProperties": False,
                        "minProperties": 1,
                        "maxProperties": 1,
                    }
                },
            },
        },
    },
}
CYCLONEDX = {
    "type": "object",
    "required": ["bomFormat", "specVersion", "serialNumber", "version", "metadata", "components", "dependencies"],
    "additionalProperties": False,
    "properties": {
        "bomFormat": {"const": "CycloneDX"},
        "specVersion": {"const": "1.6"},
        "serialNumber": {"type": "string", "pattern": "^urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
        "version": {"type": "integer", "minimum": 1},
        "metadata": {"type": "object", "properties": {"component": _PACKAGE}, "additionalProperties": False},
        "components": {"type": "array", "items": _PACKAGE, "uniqueItems": True},
        "dependencies": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["ref", "dependsOn"],
                "properties": {"dependsOn": {"type": "array", "items": {"type": "string"}, "uniqueItems": True}},
            },
        },
    },
}
"""The parts of CycloneDX 1.6 that are used; any other field is refused."""


def test_the_bill_of_materials_has_every_pinned_package() -> None:
    bill = SBOM["bill"](LOCK)
    jsonschema.validate(bill, CYCLONEDX)
    refs = [entry["bom-ref"] for entry in bill["components"]]
    assert len(set(refs)) == len(refs) == len(LOCK.splitlines())
    everything = {*refs, bill["metadata"]["component"]["bom-ref"]}
    assert {entry["ref"] for entry in bill["dependencies"]} == everything
    assert {ref for entry in bill["dependencies"] for ref in entry["dependsOn"]} <= everything
    needs = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    assert any(ref.startswith("pkg:pypi/torch@") for ref in needs[f"pkg:pypi/raysplit@{raysplit.__version__}"])
    assert json.dumps(bill) == json.dumps(SBOM["bill"](LOCK))  # equal input, equal bytes


def test_a_package_with_two_pins_is_there_twice() -> None:
    bill = SBOM["bill"]("a==1 ; python_version < '3.12'\na==2 ; python_version >= '3.12'\n")
    assert [entry["version"] for entry in bill["components"]] == ["1", "2"]


def test_the_matrix_of_machines_is_what_the_package_promises() -> None:
    """The workflow runs the targets of the Makefile, on every version of Python that the package names."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    named = [line.rpartition(" ")[2] for line in PROJECT["project"]["classifiers"] if "Python :: 3." in line]
    assert workflow["jobs"]["newest"]["strategy"]["matrix"]["python"] == named
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    targets = {target for command in commands for target in re.findall(r"\bmake (?:\w+=\S+ )*([a-z-]+)", command)}
    assert targets >= {"test", "test-lowest", "docs", "dist"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
