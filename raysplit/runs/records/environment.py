"""The versions and the machine of a run."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = ("raysplit", "ray", "torch", "torchvision", "numpy", "pyarrow", "pulp", "pydantic")


def environment(resources: Mapping[str, float]) -> dict[str, Any]:
    """Return the versions, the machine and the resources of the cluster, the content of ``environment.json``."""
    import torch

    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "cuda": torch.cuda.is_available(),
        "packages": versions,
        "cluster": dict(resources),
    }
