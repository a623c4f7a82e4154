"""Small sets that need no files: scikit-learn's digits and diabetes patients, and a mixture that is drawn."""

from __future__ import annotations

import gzip
import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from raysplit.data.failures import refuse_too_large
from raysplit.data.partition.stratify import stratified_split
from raysplit.data.reading import Reading
from raysplit.data.samples import DataSet
from raysplit.data.sources.arrays import data_set_from_arrays
from raysplit.options import Count
from raysplit.seeding import generator


def load_digits() -> DataSet:
    """Load scikit-learn's handwritten digits: ten classes, inputs of shape (1, 8, 8)."""
    table = _digits()
    x = (table[:, :-1].reshape(-1, 1, 8, 8) / 16).astype(np.float32)  # [N, 1, 8, 8]
    return data_set_from_arrays(x, table[:, -1].astype(int), "digits", mean=(0.5,), std=(0.5,))


def _digits() -> npt.NDArray[np.float64]:
    """Read the file beside the installed scikit-learn, whose import loads SciPy and pandas and takes seconds."""
    found = find_spec("sklearn")
    if found is not None and found.origin is not None:
        path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if path.exists():
            with gzip.open(path, "rt", encoding="utf-8") as file:
                return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits as bundled  # a release that keeps the file elsewhere

    digits = bundled()
    return np.column_stack([digits.data, digits.target]).astype(np.float64)


def load_diabetes(*, seed: int = 0) -> DataSet:
    """Load scikit-learn's diabetes patients: ten measurements, and the progression of the disease a year later.

    442 rows (Efron, Hastie, Johnstone, Tibshirani 2004, "Least angle regression"); every column of the inputs has mean
    0 and variance 1. A fifth of the rows is held out as the test set.

    Args:
        seed: seed of the draw of the test rows.
    """
    from sklearn.datasets import load_diabetes as bundled

    patients = bundled()
    x = (patients.data * math.sqrt(len(patients.data))).astype(np.float32)  # [N, 10]
    split = np.full(len(x), "train", object)
    split[stratified_split(np.zeros(len(x)), seed=seed)[1]] = "test"
    return data_set_from_arrays(x, patients.target, "diabetes", split=split, reading=Reading(task="regression"))


def load_random(
    *,
    num_classes: Count = 10,
    num_samples: Count = 1000,
    input_shape: tuple[Count, ...] = (1, 8, 8),
    dim: Count | None = None,
    seed: int = 0,
) -> DataSet:
    """Draw a Gaussian mixture for tests: balanced classes, standard normal class means, unit variance around them.

    Args:
        num_classes: number of classes C.
        num_samples: training and test samples together; a fifth of every class becomes the test set.
        input_shape: shape of one sample.
        dim: short for ``input_shape=(dim,)``.
        seed: seed of the random stream.

    Raises:
        ValueError: when the samples are too few to hold out a test set.
    """
    shape = tuple(input_shape) if dim is None else (dim,)
    refuse_too_large("the samples of data set random", 2 * (num_classes + num_samples) * math.prod(shape))
    draw = generator(seed, "random-dataset")
    means = draw.standard_normal((num_classes, *shape), dtype=np.float32)
    y = np.arange(num_samples) % num_classes
    x = means[y] + draw.standard_normal((num_samples, *shape), dtype=np.float32)
    return data_set_from_arrays(x, y, "random", reading=Reading(layout="channels_first"))
