"""A machine of two goes in the middle of a round, and another comes: the weights are those of an undisturbed run."""

from __future__ import annotations

from pathlib import Path

import pytest
from apart import printed_apart
from disturbed import EVERYTHING

SAMPLE = [("minibatch_sfl", 2)]
REST = [(name, 2) for name in EVERYTHING if " " not in name and (name, 2) not in SAMPLE]


def lose_a_machine(name: str, round: int) -> None:
    """In a process of its own, since this one has a Ray session."""
    assert "equal" in printed_apart(Path(__file__).parent / "machines.py", name, round)


@pytest.mark.parametrize(("name", "round"), SAMPLE)
def test_a_machine_that_goes_leaves_no_trace(name: str, round: int) -> None:
    lose_a_machine(name, round)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "round"), [*REST, ("mas", 3), ("tag", 3), ("hoa", 3)])
def test_no_machine_that_goes_leaves_a_trace(name: str, round: int) -> None:
    """In the second round of methods with groups, they are just opening."""
    lose_a_machine(name, round)
