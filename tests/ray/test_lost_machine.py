"""A machine of two goes in the middle of a round, and another comes: the weights are those of an undisturbed run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from disturbed import EVERYTHING

SAMPLE = [("minibatch_sfl", 2)]
REST = [(name, 2) for name in EVERYTHING if " " not in name and (name, 2) not in SAMPLE]


def lose_a_machine(name: str, round: int) -> None:
    """In a process of its own, since this one has a Ray session."""
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, here, str(Path(here).parent)])}
    environment.pop("RAY_ADDRESS", None)
    arguments = [sys.executable, str(Path(here) / "machines.py"), name, str(round)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    assert "equal" in done.stdout


@pytest.mark.parametrize(("name", "round"), SAMPLE)
def test_a_machine_that_goes_leaves_no_trace(name: str, round: int) -> None:
    lose_a_machine(name, round)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "round"), [*REST, ("mas", 3), ("tag", 3), ("hoa", 3)])
def test_no_machine_that_goes_leaves_a_trace(name: str, round: int) -> None:
    """In the second round of methods with groups, they are just opening."""
    lose_a_machine(name, round)
