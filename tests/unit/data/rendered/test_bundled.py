"""The digits beside scikit-learn's own loader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets

from raysplit.data.rendered.bundled import _digits


def test_digits_are_those_of_scikit_learn_to_the_bit() -> None:
    """The file is read beside the installed package, without its loader, whose import takes seconds."""
    bundled = sklearn.datasets.load_digits()
    table = _digits()
    assert np.array_equal(table[:, :-1].reshape(-1, 8, 8), bundled.images)
    assert np.array_equal(table[:, -1].astype(int), bundled.target)
    assert table.dtype == bundled.images.dtype


def test_digits_come_from_the_loader_where_the_file_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    read = _digits()
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert np.array_equal(_digits(), read)
