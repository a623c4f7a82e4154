"""Files of three clinics, each with its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from by_owner_support import SIZES, arrays


@pytest.fixture
def clinics(tmp_path: Path) -> Path:
    """A file for each owner, and one with the samples of all."""
    own = [arrays(index) for index in range(len(SIZES))]
    for index, found in enumerate(own):
        np.savez(tmp_path / f"clinic-{index}.npz", **found)
    owner = np.concatenate([[f"clinic-{index}"] * len(found["y"]) for index, found in enumerate(own)])
    joined: dict[str, Any] = {key: np.concatenate([found[key] for found in own]) for key in own[0]}
    np.savez(tmp_path / "all.npz", owner=owner, **joined)
    return tmp_path
