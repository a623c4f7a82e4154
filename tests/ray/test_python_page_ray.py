"""The page about Python on a Ray that is there already, and an algorithm of one's own on it."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray
from documented import run_page
from support import same

import raysplit

pytestmark = pytest.mark.ray

ELSEWHERE = ["Train", "The result", "Load, compare", "Sweep", "Simulate, plan", "Callbacks", "Notebooks", "Experiment"]
"""Sections that have nothing to do with Ray; tests/unit runs them."""


def test_the_page_on_ray(ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = run_page("python", without=[*ELSEWHERE, "For editors"], given={"raysplit": raysplit})
    given = {"model": page["Net"], "data": page["arrays"], "algorithm": page["Halfway"](pull=0.3)}
    on_ray = {**page["small"], "cluster": {"kind": "ray", "places": 2}}
    assert same(raysplit.train(**given, **on_ray), raysplit.train(**given, **page["small"]))
    assert ray.is_initialized()
