"""A machine of two goes in the middle of a round, and another comes: the weights are those of an undisturbed run."""

from __future__ import annotations

from pathlib import Path

import pytest
from apart import printed_apart
from disturbed import EVERYTHING

EACH = [(name, 2) for name in EVERYTHING if " " not in name]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "round"), [*EACH, ("mas", 3), ("tag", 3), ("hoa", 3)])
def test_a_machine_that_goes_leaves_no_trace(name: str, round: int) -> None:
    """In the second round of methods with groups, they are just opening. Each has a process and a Ray of its own."""
    assert "equal" in printed_apart(Path(__file__).parent / "machines.py", name, round)
