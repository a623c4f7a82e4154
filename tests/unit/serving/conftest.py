"""An exported classifier that the tests of a module share."""

from __future__ import annotations

from pathlib import Path

import pytest
from edge_support import CLASSES, META

from raysplit.models.classifier.export import (
    Serving,
    load_serving,
    save_serving,
)
from raysplit.models.classifier.heads import build_classifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("export")
    model = build_classifier("small", {task: len(names) for task, names in CLASSES.items()}, image_size=64, seed=1)
    save_serving(place, model, META)
    return place


@pytest.fixture(scope="module")
def serving(folder: Path) -> Serving:
    return load_serving(folder)
