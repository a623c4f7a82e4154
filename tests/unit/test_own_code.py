"""Files in the working directory never take the place of modules of Python or of installed packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raysplit.registry import imported

SHADOWS = ("queue", "random", "calendar", "csv", "statistics")
MODEL = """
import helper
import random
from torch import nn


class Net(nn.Module):
    def __init__(self, input_shape, num_classes):
        super().__init__()
        assert random.random() < 1
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, helper.WIDTH), nn.ReLU(), nn.Linear(helper.WIDTH, 10))

    def forward(self, x):
        return self.net(x)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text("raise ImportError('a file of the user')\n")
    (tmp_path / "helper.py").write_text("WIDTH = 7\n")
    (tmp_path / "mine.py").write_text(MODEL)
    return tmp_path


def test_files_named_as_modules_of_python_break_nothing(folder: Path) -> None:
    """``queue.py`` in the current folder ended every command with an ImportError out of pyarrow."""
    settings = ["cluster.kind=local", "training.rounds=1", "algorithm.name=fedavg", "model.name=mine:Net"]
    command = ["train", "--quiet", "--name", "a", *(word for setting in settings for word in ("--set", setting))]
    done = subprocess.run(
        [sys.executable, "-m", "raysplit", *command], cwd=folder, capture_output=True, text=True, env=_environment()
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (folder / "runs" / "a" / "model.pt").exists()


def _environment() -> dict[str, str]:
    import raysplit

    return {**os.environ, "PYTHONPATH": str(Path(raysplit.__file__).parents[1])}


def test_the_directory_goes_last_on_the_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.delitem(sys.modules, "helper", raising=False)
    assert imported("model", "mine:Net").__name__ == "Net"
    assert sys.path[-1] == str(folder)
    assert sys.path.count(str(folder)) == 1


def test_a_file_of_a_taken_name_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (folder / "numpy").mkdir()
    (folder / "numpy" / "__init__.py").write_text("")
    for path, says in {
        "queue:Net": r" is a part of Python's standard library \(queue\), .* in a file with another name",
        "numpy:Net": r": numpy in .* has the name of another module, .*numpy/__init__\.py, .*give your file another",
    }.items():
        with pytest.raises(ValueError, match=f"model '{path}'{says}"):
            imported("model", path)
