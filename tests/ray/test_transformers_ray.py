"""A split transformer with dropout is the same on Ray as in one process."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import same
from tiny_transformers import tiny_run

import raysplit

pytest.importorskip("transformers")


@pytest.mark.slow  # `test_language_model_ray` trains a small one
def test_ray_trains_the_language_model_of_one_process(tmp_path: Path, ray_session: dict[str, float]) -> None:
    given = tiny_run("gpt2", tmp_path)
    there = raysplit.train(**{**given, "cluster": {"kind": "ray", "places": 2}})
    assert same(there, raysplit.train(**given))
