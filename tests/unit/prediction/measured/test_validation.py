"""Errors and rank correlations of predictions."""

from __future__ import annotations

import pytest

from raysplit.prediction.measured.validation import Validated, Validation, kendall_tau


def test_rank_correlation_by_hand() -> None:
    assert kendall_tau([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert kendall_tau([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx((5 - 1) / 6)  # one of six pairs is turned round


@pytest.mark.parametrize(("predicted", "measured"), [([1], [2]), ([], []), ([1, 1], [1, 2])])
def test_rank_correlation_is_none_where_there_is_no_order(predicted: list[float], measured: list[float]) -> None:
    assert kendall_tau(predicted, measured) is None


def test_errors_of_both_signs_do_not_cancel() -> None:
    runs = (
        Validated(name="a", predicted_s=0.9, measured_s=1.0),
        Validated(name="b", predicted_s=2.6, measured_s=2.0),
    )
    found = Validation(runs=runs)
    assert [run.error for run in runs] == pytest.approx([-0.1, 0.3])
    assert found.mean_error == pytest.approx(0.2)
    assert found.kendall_tau == pytest.approx(1)
