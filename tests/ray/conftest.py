"""One Ray session for the whole suite, in a temporary folder of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from raysplit.cluster.layout import Sharing
from raysplit.cluster.on_ray.connect import RayOptions, connect, disconnect

os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray reads it once, at the import that a test module may begin with

MakeCluster = Callable[..., object]
_CPUS = 4


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "ray" in item.path.parts:
            item.add_marker(pytest.mark.ray)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[dict[str, float]]:
    """The resources of a private local Ray with four logical CPUs."""
    folder = tempfile.mkdtemp(prefix="rs", dir="/tmp")  # short: socket paths below it have a length limit
    tests = Path(__file__).parents[1]
    folders = [str(tests), str(tests.parent / "examples"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, folders))  # an empty one is the working directory
    resources = connect(RayOptions(address="local", num_cpus=_CPUS, object_store_bytes=200 * 2**20, temp_dir=folder))
    yield resources
    disconnect()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def warm_places(ray_session: dict[str, float]) -> Iterator[dict[int, Any]]:
    """Running places by number, shared by the tests: a process takes seconds to start."""
    pools: dict[int, Any] = {}
    yield pools
    for pool in pools.values():
        pool.close()


@pytest.fixture
def make_cluster(warm_places: dict[int, Any]) -> MakeCluster:
    """Makes a `RayCluster` with so many places (``sharing="alone"``: one for every party, not shared by tests)."""
    from raysplit.cluster.layout import lay_out
    from raysplit.cluster.on_ray.cluster import Places, RayCluster

    def make(num_places: int = 2, sharing: Sharing = "auto", **options: Any) -> RayCluster:
        alone = sharing == "alone"
        layout = partial(lay_out, num_places=num_places, cpus=1 if alone else num_places / 4, sharing=sharing)
        places = None if alone else warm_places.setdefault(num_places, Places(timeout_s=120))
        return RayCluster(layout, placement_timeout_s=120, places=places, **options)

    return make
