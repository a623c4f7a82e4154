"""Validation of predictions: how far predicted rounds are from measured ones, and whether they rank them alike.

Whoever chooses between configurations needs their order more than their seconds, so that Kendall's rank correlation
("A new measure of rank correlation", Biometrika 30, 1938) is told beside the error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Validated:
    """Predicted and measured length of a round of one configuration.

    Attributes:
        name: the configuration.
        predicted_s, measured_s: the mean length of a round.
        num_late: the number of steps of a paced run that this machine was too slow for.
    """

    name: str
    predicted_s: float
    measured_s: float
    num_late: int = 0

    @property
    def error(self) -> float:
        """Relative error, which is positive where the prediction is too long."""
        return (self.predicted_s - self.measured_s) / self.measured_s


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Predictions of several configurations beside their measurements."""

    runs: tuple[Validated, ...]

    @property
    def mean_error(self) -> float:
        """Mean of the absolute relative errors."""
        return math.fsum(abs(run.error) for run in self.runs) / len(self.runs)

    @property
    def kendall_tau(self) -> float | None:
        """Rank correlation from -1 to 1 (tau-b); None for a single run, and where all predictions are equal."""
        return kendall_tau([run.predicted_s for run in self.runs], [run.measured_s for run in self.runs])


def kendall_tau(predicted: Sequence[float], measured: Sequence[float]) -> float | None:
    """Return Kendall's tau-b; None where it is undefined."""
    from scipy.stats import kendalltau  # imported late, because it takes a second

    tau = float(kendalltau(predicted, measured).statistic) if len(predicted) > 1 else math.nan
    return None if math.isnan(tau) else tau
