"""Every script in `examples/` runs as its first lines say, on one process, and prints what it promises."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from documented import EXAMPLES

PRINTED = {
    "train": ["after 5 rounds (all rounds done)", "bytes that left the owners:"],
    "by_owner": ["after 5 rounds (all rounds done)"],
    "resume": ["after 2 rounds (cut short)", "bit for bit"],
    "load": ["'test_accuracy'", "classes of two random pictures:"],
    "compare": ["MiniBatch-SFL  accuracy", "FedAvg         accuracy", "'rounds':"],
    "sweep": ["| alpha | accuracy |", "failed: {}"],
    "simulate": ["20 owners:", "node-3 is busy"],
    "plan": ["cuts [2, 18, 31, 35]", "s per round"],
    "callback": ["MiniBatch-SFL with 5 owners", "round 1 is kept below", "stopped by Enough"],
    "own_method": ["pull 1.0: test accuracy", "pull 0.3: test accuracy"],
}
WITHOUT_FOLDER = {"plan", "own_method"}
NOT_SCRIPTS = {"fsha", "scaffold"}
"""Files that a configuration names."""


def test_every_script_is_run_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} - NOT_SCRIPTS == PRINTED.keys()


@pytest.mark.parametrize("name", PRINTED)
def test_a_script(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *([] if name in WITHOUT_FOLDER else ["here"])])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    for text in PRINTED[name]:
        assert text in printed
    assert {path.name for path in tmp_path.iterdir()} <= {"here"}
