"""The driver of a run on Ray is killed: nothing of it goes on, and a resumed run ends with the undisturbed bits."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest
from disturbed import EVERYTHING, changes
from killed_driver import kill_driver
from mas_support import same_models
from support import train

from raysplit.api import resume

SAMPLE = ["minibatch_sfl"]
REST = [name for name in EVERYTHING if " " not in name and name not in SAMPLE]
ON_RAY = {"kind": "ray", "places": 1, "num_cpus": 4, "object_store_mib": 100}


def resumed_is_undisturbed(name: str, folder: Path) -> None:
    """Killed in a Ray session of its own; taken up in that of the tests."""
    kill_driver(folder, cluster=ON_RAY, **changes(name))
    found = resume(folder)
    assert same_models(found.states, train(**changes(name)).states)


def places() -> list[int]:
    return [p.pid for p in psutil.process_iter(["cmdline"]) if "ray::Place" in " ".join(p.info["cmdline"] or ())]


@pytest.mark.parametrize("name", SAMPLE)
def test_a_killed_driver_is_resumed(name: str, ray_session: dict[str, float], tmp_path: Path) -> None:
    before = set(places())
    kill_driver(tmp_path / "cut", cluster=ON_RAY, **changes(name))
    deadline = time.monotonic() + 60
    while set(places()) - before and time.monotonic() < deadline:
        time.sleep(0.2)  # another program's processes end when they end
    assert not set(places()) - before
    found = resume(tmp_path / "cut")
    assert same_models(found.states, train(**changes(name)).states)


@pytest.mark.slow
@pytest.mark.parametrize("name", REST)
def test_every_killed_driver_is_resumed(name: str, ray_session: dict[str, float], tmp_path: Path) -> None:
    resumed_is_undisturbed(name, tmp_path / "cut")
