"""Samples that owners set aside: how many, whose, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from support import same, settings, train

from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.data.partition.aside import set_aside

PARTS = [np.arange(0, 20), np.arange(20, 23), np.arange(23, 24)]


def test_every_owner_sets_its_share_aside() -> None:
    """A tenth of 20 is 2; of 3 it is rounded up to 1; the owner of a single sample keeps it."""
    kept, aside = set_aside(PARTS, 0.1, seed=0)
    assert [len(part) for part in aside] == [2, 1, 0]
    for part, own, other in zip(PARTS, kept, aside, strict=True):
        assert sorted([*own, *other]) == list(part)
        assert list(own) == sorted(own)


def test_nothing_is_set_aside_by_default() -> None:
    kept, aside = set_aside(PARTS, 0.0, seed=0)
    assert all(np.array_equal(a, b) for a, b in zip(kept, PARTS, strict=True))
    assert [len(part) for part in aside] == [0, 0, 0]


def test_what_is_set_aside_follows_the_seed() -> None:
    first, again, other = (set_aside(PARTS, 0.3, seed=seed)[1][0] for seed in (0, 0, 1))
    assert list(first) == list(again) != list(other)


def test_a_run_is_evaluated_on_what_is_set_aside_and_trains_on_the_rest() -> None:
    """The loss on validation samples is that of the owners' own, also where every owner has a model of its own."""
    plain = build(check_config(settings()))
    held = build(check_config(settings(data__validation=0.25)))
    for whole, rest in zip(plain.parts, held.parts, strict=True):
        assert len(rest) == len(whole) - round(0.25 * len(whole))
    for name in ("fedavg", "local"):
        row = train(algorithm={"name": name}, data__validation=0.25, training__rounds=1).rows[-1]
        assert 0 <= row["val_accuracy"] <= 1
        assert row["val_loss"] != row["test_loss"]


def test_validation_changes_nothing_but_what_is_trained_on() -> None:
    assert "val_loss" not in train(training__rounds=1).rows[-1]
    assert not same(train(training__rounds=1), train(training__rounds=1, data__validation=0.25))


def test_data_with_validation_samples_of_their_own_take_no_share() -> None:
    tree = settings(
        data={"name": "shapes3d", "tasks": ["shape"], "num_train": 20, "num_test": 4, "validation": 0.1},
        model={"name": "multi_task", "backbone": "small"},
        algorithm={"name": "mtl_split"},
        partition={"num_owners": 1},
    )
    with pytest.raises(ValueError, match="validation samples of their own"):
        build(check_config(tree))
