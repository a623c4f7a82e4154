"""The working directory on the import path of Ray's processes."""

from __future__ import annotations

import os

from raysplit.cluster.on_ray.connect import RayOptions, run_tasks


def test_the_working_directory_is_not_first_on_the_path_of_a_worker(ray_session: dict[str, float]) -> None:
    """Ray puts it first, so that a user's ``queue.py`` took the place of Python's in every process."""
    ((_, path),) = run_tasks(eval, [("__import__('sys').path",)], RayOptions(), at_once=1)
    assert os.getcwd() in path
    named = [folder for folder in os.environ["PYTHONPATH"].split(os.pathsep) if folder]
    before_python = path[: next(i for i, folder in enumerate(path) if folder.endswith(".zip"))]
    assert os.getcwd() not in before_python or os.getcwd() in named
