"""The table of titles that readers use without torch says what the algorithms say."""

from __future__ import annotations

from raysplit.algorithms import ALGORITHMS
from raysplit.experiment.titles import TITLES, TRAININGS, title_of


def test_the_titles_are_those_of_the_algorithms() -> None:
    assert {name: algorithm.title for name, algorithm in ALGORITHMS.items()} == TITLES
    assert {name: a.trainings for name, a in ALGORITHMS.items() if a.trainings != 1} == TRAININGS
    assert title_of("mine:Method") == "mine:Method"
