"""What an owner spends over repeated rounds, killed runs and resumed ones, and what it refuses to spend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from guarded import NOISY, TRAINING, accounts, experiment_of, guarded, secret_in

from raysplit.actors.aggregation import UpdateRefused
from raysplit.actors.records import RoundContext, StepId
from raysplit.cluster.contract import current_samples
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.guards.account import ledger as ledgers
from raysplit.guards.costs import GuardRecipe, Plan
from raysplit.guards.guard import OwnerGuard
from raysplit.guards.rules import PrivacyRules
from raysplit.training.loop import run

LABELS = torch.arange(40) % 5
PLAN = Plan(num_steps=3, uses=1, most_rows=16, num_rows=40, per_epoch=3, to=("server",))


def guard_of(folder: Path, **more: Any) -> OwnerGuard:
    rules = PrivacyRules(**{**NOISY, "secret_file": secret_in(folder), **more})
    return OwnerGuard(GuardRecipe(rules=rules, seed=1, folder=str(folder), num_classes=5), "owner-0", LABELS)


def context(round: int = 0, attempt: int = 0, cohort: tuple[str, ...] = ("owner-0", "owner-1")) -> RoundContext:
    share = tuple(1 / len(cohort) for _ in cohort)
    return RoundContext(round=round, cohort=cohort, weights=share, num_steps=(3,) * len(cohort), attempt=attempt)


def round_of(
    guard: OwnerGuard, at: RoundContext, g: Callable[[int], torch.Tensor] = lambda i: torch.full((2,), float(i))
) -> list[torch.Tensor]:
    """Send one batch of smashed data a step, and receive the gradients that come back."""
    guard.begin(at, {"w": torch.ones(2)}, PLAN)
    sent = []
    for step in range(3):
        current_samples.set(torch.arange(4))
        step_id = StepId(owner="owner-0", round=at.round, step=step, attempt=at.attempt)
        sent.append(guard.leaves("z", torch.full((4, 6), float(step)), "server", step_id))
        guard.received((0.5, g(step)))
    guard.leaves("weights", {}, "aggregator", at)
    return sent


def all_equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> list[bool]:
    return [torch.equal(x, y) for x, y in zip(a, b, strict=True)]


def mu2(guard: OwnerGuard) -> float:
    return sum(charge.mu2 for charge in guard.spending.ledger.charges)


ROUND = (2 / 0.5) ** 2  # squared mu of one release: 2 C / sigma = 4


def test_an_undisturbed_repeat_sends_the_same_bits_and_costs_nothing(tmp_path: Path) -> None:
    guard = guard_of(tmp_path)
    kept = guard.state_dict()
    first = round_of(guard, context())
    charged = list(guard.spending.ledger.charges)
    guard.load_state_dict(kept)
    assert all_equal(round_of(guard, context(attempt=1)), first) == [True, True, True]
    assert guard.spending.ledger.charges == charged
    assert mu2(guard) == ROUND


def test_a_repeat_without_one_owner_is_another_round(tmp_path: Path) -> None:
    guard = guard_of(tmp_path)
    kept = guard.state_dict()
    first = round_of(guard, context())
    guard.load_state_dict(kept)
    again = round_of(guard, context(attempt=1, cohort=("owner-0",)))
    assert all_equal(again, first) == [False, False, False]
    assert mu2(guard) == 2 * ROUND
    labels = [charge for charge in guard.spending.ledger.charges if charge.value == "y"]
    assert [charge.epsilon_pure for charge in labels] == [2.0]  # drawn once


def test_a_server_that_answers_otherwise_in_a_repeat_gets_fresh_noise_that_is_paid(tmp_path: Path) -> None:
    """The noise of the same messages would be the same, and the difference of two values with it their difference."""
    guard = guard_of(tmp_path)
    kept = guard.state_dict()
    first = round_of(guard, context())
    guard.load_state_dict(kept)
    again = round_of(guard, context(attempt=1), lambda i: torch.full((2,), i + (i == 1) * 1e-6))
    assert all_equal(again, first) == [True, True, False]
    assert mu2(guard) == 2 * ROUND
    guard.load_state_dict(kept)
    assert all_equal(round_of(guard, context(attempt=2)), first) == [True, True, True]
    guard.load_state_dict(kept)
    third = round_of(guard, context(attempt=3), lambda i: torch.full((2,), i + (i == 1) * 1e-6))
    assert all_equal(third, again) == [True, True, True]
    assert mu2(guard) == 2 * ROUND


def test_other_settings_have_other_noise(tmp_path: Path) -> None:
    """With one noise for two amounts of it, two messages would give the value itself; with one for two values, the
    difference. So would labels that are flipped by one draw at two odds."""
    rules = [
        (PrivacyRules(**{**NOISY, "secret_file": secret_in(tmp_path), **more}), run)
        for more, run in (({}, "a"), ({}, "b"), ({"z": {"clip": 1, "noise": 0.25}, "labels": {"epsilon": 1}}, "a"))
    ]
    guards = [OwnerGuard(GuardRecipe(rules=r, run=run, num_classes=5), "owner-0", LABELS) for r, run in rules]
    noises = []
    for guard in guards:
        z = round_of(guard, context())[0]  # of zeros
        assert guard.rules.z is not None
        noises.append(z / guard.rules.z.sigma)
    assert all(float((noises[i] - noises[j]).abs().max()) > 0.1 for i, j in ((0, 1), (0, 2), (1, 2)))
    kept = [guard._labels == LABELS for guard in guards]
    assert not torch.equal(kept[0], kept[1])
    assert bool((kept[2] & ~kept[0]).any())  # at lower odds, and yet others are kept


def test_what_came_before_counts_where_owners_keep_their_weights(tmp_path: Path) -> None:
    """A round that starts from the owner's own weights gets no others: the rounds before are part of its key."""
    guard = guard_of(tmp_path)
    round_of(guard, context(0))
    guard.end()
    second = round_of(guard, context(1))
    other = guard_of(tmp_path / "other" if (tmp_path / "other").mkdir() is None else tmp_path)
    round_of(other, context(0), lambda i: torch.full((2,), i + 0.5))
    other.end()
    assert all_equal(round_of(other, context(1)), second) == [False, False, False]


def test_a_value_is_released_once_in_a_step(tmp_path: Path) -> None:
    guard = guard_of(tmp_path)
    guard.begin(context(), None, PLAN)
    step_id = StepId(owner="owner-0", round=0, step=0)
    z = torch.zeros(4, 6)
    one, two = (guard.leaves("z", z, name, step_id) for name in ("heads-0", "heads-1"))
    assert one is two
    with pytest.raises(ValueError, match="sends z twice in a step"):
        guard.leaves("z", torch.zeros(4, 6), "heads-0", step_id)


def test_smashed_data_outside_of_a_step_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sends z outside of a step"):
        guard_of(tmp_path).leaves("z", torch.zeros(4, 6), "server", None)


def test_a_budget_is_kept_before_anything_leaves(tmp_path: Path) -> None:
    changes = {"training": TRAINING, "algorithm": {"name": "splitnn", "cut": 1}}
    privacy = {**NOISY, "secret_file": secret_in(tmp_path), "ledger": str(tmp_path / "ledger")}
    with pytest.raises(UpdateRefused, match=r"budget is epsilon 50 at delta 1e-05; .* is spent, and after this round"):
        guarded(**changes, privacy={**privacy, "budget": {"epsilon": 50}})
    for account in accounts(tmp_path / "ledger"):
        assert account.total(1e-5).epsilon <= 50
        assert account.rounds >= 1


def test_a_budget_needs_a_ledger_that_stays(tmp_path: Path) -> None:
    privacy = {**NOISY, "secret_file": secret_in(tmp_path), "budget": {"epsilon": 500}}
    with pytest.raises(ValueError, match=r"this run keeps its ledger in memory alone; train into a run folder"):
        guarded(algorithm={"name": "splitnn", "cut": 1}, privacy=privacy)


def test_an_owner_without_budget_left_is_dropped_where_the_rules_say_so(tmp_path: Path) -> None:
    privacy = {**NOISY, "secret_file": secret_in(tmp_path), "ledger": str(tmp_path / "ledger")}
    changes = {"training": TRAINING, "algorithm": {"name": "minibatch_sfl", "cut": 1}}
    guarded(**changes, privacy={**privacy, "ledger": str(tmp_path / "first")})
    whole = accounts(tmp_path / "first")[0].total(1e-5).epsilon
    guarded(**{**changes, "seed": 9}, privacy={**privacy, "ledger": str(tmp_path / "spent")})
    for name in ("owner-0", "owner-1"):  # as if they had never taken part
        (tmp_path / "spent" / f"{name}.jsonl").unlink()
    rules = {"on_bad_update": "drop", "quorum": 0.5, "exclude_after": 1}
    budget = {"epsilon": 1.5 * whole}
    result = guarded(
        **changes,
        reliability=rules,
        privacy={**privacy, "ledger": str(tmp_path / "spent"), "budget": budget},
    )
    assert [row["num_owners"] for row in result.rows][-1] == 2


def test_delta_of_one_over_n_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"delta is 0.5 and owner-0 has 40 samples"):
        guard_of(tmp_path, budget={"epsilon": 8, "delta": 0.5})


def test_the_seed_of_the_run_has_no_influence_on_noise(tmp_path: Path) -> None:
    """The same secret and transcript: the same noise, whatever the seed."""
    first, second = guard_of(tmp_path), guard_of(tmp_path / "b" if (tmp_path / "b").mkdir() is None else tmp_path)
    second._recipe = GuardRecipe(rules=second.rules, seed=99, num_classes=5)  # it gives the subspace alone
    assert all_equal(round_of(first, context()), round_of(second, context())) == [True, True, True]


def test_another_secret_is_another_charge(tmp_path: Path) -> None:
    guard = guard_of(tmp_path)
    round_of(guard, context())
    ledgers.let_go(str(tmp_path))
    (tmp_path / "secret.key").write_bytes(b"x" * 32)
    rules = PrivacyRules(**NOISY, secret_file=str(tmp_path / "secret.key"))
    again = OwnerGuard(GuardRecipe(rules=rules, seed=1, folder=str(tmp_path), num_classes=5), "owner-0", LABELS)
    round_of(again, context())
    assert mu2(again) == 2 * ROUND
    assert sum(charge.epsilon_pure for charge in again.spending.ledger.charges) == 4.0
    ledgers.let_go(str(tmp_path))


def test_an_unreadable_secret_ends_the_run_before_it_starts(tmp_path: Path) -> None:
    privacy = {**NOISY, "secret_file": str(tmp_path / "missing.key")}
    experiment = experiment_of(algorithm={"name": "splitnn", "cut": 1}, privacy=privacy)
    with pytest.raises(ValueError, match="the secret of owner-0 cannot be read"):
        asyncio.run(run(experiment, LocalCluster(links=experiment.link_rules())))
