"""The cost model against the published run times, and the ledger of charges."""

from __future__ import annotations

import pytest

from raysplit.schedulers.energy import (
    Charge,
    Spent,
    TaskCost,
    fit_task_cost,
    spent,
    spent_by_group,
    spent_by_owner,
    spent_by_task,
)

PUBLISHED = fit_task_cost({1: 16.87 / 5, 5: 7.28})  # hours per 100 rounds, five Taskonomy tasks


def test_fit_of_the_published_run_times() -> None:
    assert PUBLISHED.decoder_hours == pytest.approx(0.9765, abs=1e-4)
    assert PUBLISHED.encoder_hours == pytest.approx(2.3975, abs=1e-4)
    assert PUBLISHED.one_by_one_hours(5) == pytest.approx(16.87)
    assert PUBLISHED.all_in_one_hours(5) == pytest.approx(7.28)


def test_published_run_times_of_grouped_methods_follow() -> None:
    tag = [PUBLISHED.tag_hours(5, sizes) for sizes in ((3, 2), (2, 2, 2), (2, 2, 2, 2))]
    assert tag == pytest.approx([16.96, 20.33, 24.68], abs=0.01)
    assert PUBLISHED.hoa_hours(5) == pytest.approx(60.4, abs=0.05)
    assert PUBLISHED.hoa_hours(5, (3, 2)) == pytest.approx(60.4 + 5.327, abs=0.05)
    mas = [PUBLISHED.mas_hours(5, num_groups, merged_share=0.3) for num_groups in (2, 3, 4)]
    assert mas == pytest.approx([8.96, 10.64, 12.31], abs=0.01)


def test_splitting_into_all_tasks_at_once_or_never_gives_the_simple_runs() -> None:
    cost = TaskCost(encoder_hours=2.0, decoder_hours=0.5)
    assert cost.mas_hours(4, 4, merged_share=0.0) == cost.one_by_one_hours(4)
    assert cost.mas_hours(4, 2, merged_share=1.0) == cost.all_in_one_hours(4)
    assert cost.mas_hours(4, 1, merged_share=0.3) == pytest.approx(cost.all_in_one_hours(4))


def test_overhead_of_measuring_affinities() -> None:
    assert PUBLISHED.affinity_overhead(5, 10) == pytest.approx(0.32, abs=0.005)
    plain = PUBLISHED.mas_hours(5, 2, merged_share=0.3)
    assert PUBLISHED.mas_hours(5, 2, merged_share=0.3, overhead=0.5) == pytest.approx(plain + 0.15 * 7.28)


def test_fit_is_least_squares() -> None:
    cost = fit_task_cost({1: 3.0, 2: 4.0, 3: 5.0})
    assert (cost.encoder_hours, cost.decoder_hours) == pytest.approx((2.0, 1.0))


def test_errors_name_the_rule() -> None:
    with pytest.raises(ValueError, match="two different numbers of tasks"):
        fit_task_cost({1: 3.0})
    with pytest.raises(ValueError, match="between 0 and 1"):
        PUBLISHED.mas_hours(5, 2, merged_share=30)
    with pytest.raises(ValueError, match="at least 1"):
        PUBLISHED.affinity_overhead(5, 0)
    with pytest.raises(ValueError, match="at least 0"):
        Charge(owner="a", group=("s",), round=0, seconds=-1.0, watts=5.0)


def test_ledger() -> None:
    charges = [
        Charge(owner="a", group=("s", "d"), round=0, seconds=3600.0, watts=100.0),
        Charge(owner="b", group=("s", "d"), round=0, seconds=1800.0, watts=200.0),
        Charge(owner="a", group=("k",), round=1, seconds=7200.0, watts=50.0),
    ]
    assert spent(charges) == Spent(hours=3.5, kwh=pytest.approx(0.3))
    assert spent_by_owner(charges) == {
        "a": Spent(hours=3.0, kwh=pytest.approx(0.2)),
        "b": Spent(hours=0.5, kwh=pytest.approx(0.1)),
    }
    assert spent_by_group(charges)["s", "d"] == Spent(hours=1.5, kwh=pytest.approx(0.2))
    assert spent_by_task(charges) == {
        "s": Spent(hours=0.75, kwh=pytest.approx(0.1)),
        "d": Spent(hours=0.75, kwh=pytest.approx(0.1)),
        "k": Spent(hours=2.0, kwh=pytest.approx(0.1)),
    }
    assert spent([]) == Spent(hours=0.0, kwh=0.0)
