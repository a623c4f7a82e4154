"""Guards at the owners of every method: off they change nothing, on they are heeded, and runs can be repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from disturbed import ALGORITHMS, changes
from guarded import accounts, experiment_of, guarded, secret_in
from support import same, train

from raysplit.algorithms import resolve_algorithm
from raysplit.algorithms.unused import unused_by
from raysplit.runs.result import Result

ONE_ROUND: dict[str, Any] = {"rounds": 1, "batch_size": 16, "optimizer": {"lr": 0.1}}
GUARDS: dict[str, dict[str, Any]] = {
    "privacy.z": {"z": {"clip": 1, "noise": 0.5}},
    "privacy.labels": {"labels": {"epsilon": 2}},
    "privacy.g": {"g": {"mechanism": "gaussian", "clip": 0.1, "noise": 1}},
    "privacy.weights": {"weights": {"clip": 1, "noise": 1}},
    "privacy.nopeek": {"nopeek": 0.5},
    "privacy.project": {"project": 4},
    "privacy.dropout": {"dropout": 0.5},
    "privacy.reports": {"reports": "noisy"},
}
METHODS = {"splitnn", "splitfed_v1", "splitfed_v2", "minibatch_sfl", "mtsl", "mpsl", "fedavg"}


def of_method(name: str, training: dict[str, Any] = ONE_ROUND, **more: Any) -> dict[str, Any]:
    tree = changes(name, training, **more)
    tree["algorithm"] = {key: value for key, value in tree["algorithm"].items() if key != "learning_rates"}
    return tree


def equal(a: Result, b: Result) -> bool:
    timed = {"seconds", "train_seconds_total", "samples_per_s"}
    rows = [[{k: v for k, v in row.items() if k not in timed} for row in result.rows] for result in (a, b)]
    return all(same(a.states[k], b.states[k]) for k in a.states) and rows[0] == rows[1] and a.links == b.links


@pytest.mark.parametrize("name", [n for n in ALGORITHMS if n not in ("local", "centralised", "fedem")])
def test_a_ledger_alone_changes_no_bit(name: str) -> None:
    """The link sees every value, and hands it on as it is."""
    tree = of_method(name)
    assert equal(guarded(**tree, privacy={"rehearsal": True}), train(**tree))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_guard_is_heeded_or_refused(name: str) -> None:
    """A guard of the table changes the weights or the report of a run."""
    plain = guarded(**of_method(name))
    unused = unused_by(resolve_algorithm(name))
    for key, guard in GUARDS.items():
        tree = of_method(name, privacy={**guard, "rehearsal": True})
        if key in unused:
            with pytest.raises(ValueError, match=rf"{key} .* does not use it"):
                experiment_of(**tree)
            continue
        result = guarded(**tree)
        if key == "privacy.reports":
            assert result.rows[-1]["train_loss"] != plain.rows[-1]["train_loss"]
        else:
            assert not all(same(result.states[label], plain.states[label]) for label in plain.states), key


def test_evaluation_is_as_deployed() -> None:
    """With so much noise that nothing is left, the model without noise may still be right."""
    privacy = {"z": {"clip": 0.1, "noise": 100}, "rehearsal": True}
    row = guarded(algorithm={"name": "splitnn", "cut": 1}, privacy=privacy).rows[-1]
    assert row["test_accuracy"] != row["test_accuracy_uncoded"]
    assert np.isfinite(row["test_loss"])
    plain = guarded(algorithm={"name": "splitnn", "cut": 1}, privacy=privacy, evaluation={"links": "none"}).rows[-1]
    assert "test_accuracy_uncoded" not in plain


def test_a_withheld_loss_is_not_told_as_a_number() -> None:
    row = guarded(algorithm={"name": "fedavg"}, privacy={"reports": "none"}).rows[-1]
    assert "train_loss" not in row


def test_owners_may_draw_their_initial_weights(tmp_path: Path) -> None:
    """The node's part begins as ever, and whoever has the seed does not know the owners'."""
    secret = {"secret_file": secret_in(tmp_path)}
    frozen = {**ONE_ROUND, "optimizer": {"lr": 0.0}}
    for name in ("splitnn", "splitfed_v1", "minibatch_sfl", "mpsl"):
        plain, own = guarded(**of_method(name, frozen)), None
        tree = of_method(name, frozen, privacy=secret)
        own = guarded(**{**tree, "model": {**tree["model"], "init": "owners"}})
        again = guarded(**{**tree, "model": {**tree["model"], "init": "owners"}, "seed": tree.get("seed", 3)})
        before, after = plain.states["global"], own.states["global"]
        changed = {key for key in before if not torch.equal(before[key], after[key])}
        assert changed
        assert changed < set(before)
        assert same(own, again)


def test_a_run_with_a_total(tmp_path: Path) -> None:
    """All that leaves has a mechanism: one epsilon for all of it."""
    privacy = {
        "secret_file": secret_in(tmp_path),
        "ledger": str(tmp_path / "ledger"),
        "z": {"clip": 1, "epsilon": 1},
        "labels": {"epsilon": 1},
        "weights": {"clip": 1, "noise": 4},
        "budget": {"epsilon": 40},
    }
    guarded(**of_method("minibatch_sfl"), privacy=privacy)
    for account in accounts(tmp_path / "ledger"):
        total = account.total(1e-5)
        assert (total.guarantee, total.reason) == ("total", "")
        # one use: mu of z is 1 / 3.730632, of the weights 2 / 4; and the labels' own
        mu2 = (1 / 3.730632) ** 2 + 0.25
        assert total.mu2 == pytest.approx(mu2, abs=1e-6)
        assert 1 < total.epsilon < 8


def test_fedavg_with_dp_sgd_and_guarded_reports_has_a_total(tmp_path: Path) -> None:
    privacy = {
        "secret_file": secret_in(tmp_path),
        "ledger": str(tmp_path / "ledger"),
        "weights": {"clip": 1, "noise": 4},
        "reports": {"epsilon": 0.5},
    }
    guarded(**of_method("fedavg"), privacy=privacy)
    assert {account.total(1e-5).guarantee for account in accounts(tmp_path / "ledger")} == {"total"}


def test_batch_norm_is_refused_with_guarded_rows() -> None:
    with pytest.raises(ValueError, match=r"the owner's part has batch norm .* use group norm"):
        guarded(
            model={"name": "support:normed_net"},
            algorithm={"name": "splitnn", "cut": 1},
            privacy={"z": {"clip": 1, "noise": 1}, "rehearsal": True},
        )
