"""One process at a time writes to a run folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raysplit.runs.folder import LOCK, RunFolder, RunFolderUsed, entries, held

HOLDER = """
import sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_the_lock_is_there_while_the_folder_is_held_and_no_part_of_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    with held(folder):
        assert (folder / LOCK).exists()
        assert entries(folder) == []
        RunFolder(folder).write_text("config.yaml", "seed: 1\n")
        RunFolder(folder, overwrite=True).begin()
        assert (folder / LOCK).exists()
        with pytest.raises(
            RunFolderUsed,
            match=r"another process is writing the run in .*one; wait for it, stop it, or give another name",
        ):
            held(folder).__enter__()
    assert not folder.parent.exists(), "an empty folder that was made for the lock is no run"
    with held(folder):
        pass


def test_a_folder_that_cannot_be_made_is_told_with_its_setting(tmp_path: Path) -> None:
    """``output.root=/proc/x`` was "No such file or directory", without the setting."""
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"output.root: .*file/run cannot be made \(Not a directory\); set another"):
        held(tmp_path / "file" / "run").__enter__()


def test_an_error_lets_the_folder_go(tmp_path: Path) -> None:
    with pytest.raises(KeyError), held(tmp_path):
        raise KeyError
    with held(tmp_path):
        pass


def test_a_process_holds_the_folder_until_it_is_killed(tmp_path: Path) -> None:
    """A run that was killed leaves its lock file; the next one must not wait for a dead process."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunFolderUsed, match="another process is writing"):
            held(tmp_path).__enter__()
        process.kill()
    assert (tmp_path / LOCK).exists()
    RunFolder(tmp_path)  # holds no run
    with held(tmp_path):
        pass
    assert not (tmp_path / LOCK).exists()
