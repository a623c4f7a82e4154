"""Gradient divergence: hand-made gradients, and the property that a later cut cannot lower the raw value."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from support import same, train

from raysplit.training.divergence import divergence


def test_figures_of_a_hand_made_case() -> None:
    """Two owners at (1, 0) and (-1, 0), weighted 1:3: the mean is (-0.5, 0), squared distances 2.25 and 0.25."""
    found = divergence([torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0])], [0.25, 0.75])
    assert found["divergence_raw"] == pytest.approx(0.75)
    assert found["divergence_rms"] == pytest.approx(sqrt(0.75 / 2))
    assert found["divergence_rel"] == pytest.approx(3.0)


def test_it_does_not_depend_on_the_order_of_owners() -> None:
    gradients = list(torch.randn(4, 7, generator=torch.Generator().manual_seed(0)).double())
    weights = [0.1, 0.2, 0.3, 0.4]
    assert divergence(gradients[::-1], weights[::-1]) == pytest.approx(divergence(gradients, weights), rel=1e-10)


def test_at_one_model_the_raw_value_grows_with_the_cut() -> None:
    """All runs start from the same weights, so the first round's value is that of one and the same model."""
    skewed = {"name": "noniid_ratio", "num_owners": 3, "ratio": 0.9}
    raw = [
        train(
            algorithm={"name": "minibatch_sfl", "cut": cut},
            model__send_inputs=["x"],
            partition=skewed,
            evaluation={"divergence_every": 1},
        ).rows[0]["divergence_raw"]
        for cut in range(4)
    ]
    assert raw[0] == 0
    assert raw == sorted(raw)
    assert raw[1] < raw[2] < raw[3]


def test_batch_figures_of_one_full_batch_are_those_of_the_whole_shard() -> None:
    """One step on everything an owner has: its mini-batch gradient is its full gradient."""
    row = train(
        algorithm={"name": "minibatch_sfl", "cut": 2},
        training={"rounds": 1, "batch_size": 80, "optimizer": {"lr": 0.1}},
        evaluation={"divergence_every": 1},
    ).rows[0]
    for figure in ("raw", "rms", "rel"):
        assert row[f"divergence_batch_{figure}"] == pytest.approx(row[f"divergence_{figure}"], rel=1e-9)


def test_measuring_changes_no_weight() -> None:
    skewed = {"name": "noniid_ratio", "num_owners": 3, "ratio": 0.9}
    measured = train(partition=skewed, evaluation={"divergence_every": 1})
    assert same(measured, train(partition=skewed))
    assert measured.rows[1]["divergence_batch_raw"] > 0


def test_methods_without_a_common_model_say_so() -> None:
    with pytest.raises(
        ValueError, match=r"divergence_every is 1, and local does not use it: .* compared at one common model"
    ):
        train(algorithm={"name": "local"}, evaluation={"divergence_every": 1})
