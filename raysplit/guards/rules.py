"""The ``privacy`` section of a configuration: what limits what leaves an owner."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from raysplit.guards.account.accounting import DELTA, gaussian_sigma, mu_for
from raysplit.options import PathText
from raysplit.schedulers.rules import Rules

Reports = Literal["plain", "noisy", "none"]


class SmashedNoise(Rules):
    """Clipping of the rows of smashed data, and noise on them."""

    mechanism: Literal["gaussian", "laplace"] = "gaussian"
    """Law of the noise. With ``gaussian`` a row is clipped to an Euclidean norm, with ``laplace`` to a sum of
    magnitudes."""
    clip: float | None = Field(default=None, gt=0)
    """Largest norm of a row; None does not clip, and ``noise`` is then in standard deviations of the batch, which
    promises nothing."""
    noise: float | None = Field(default=None, ge=0)
    """Standard deviation (``laplace``: scale) of the noise, in multiples of ``clip``."""
    epsilon: float | None = Field(default=None, gt=0)
    """Epsilon of one release instead of ``noise``, for one sample in place of another."""
    delta: float = Field(default=DELTA, gt=0, lt=1)
    """Delta that belongs to ``epsilon``."""

    @model_validator(mode="after")
    def _one_amount(self) -> SmashedNoise:
        if self.noise is not None and self.epsilon is not None:
            if self.noise == 0:
                raise ValueError(
                    f"noise is 0 and epsilon is {self.epsilon:g}: without noise nothing is promised; leave noise out"
                )
            raise ValueError(
                f"noise is {self.noise:g} and epsilon is {self.epsilon:g}, which both say how much noise; give one"
            )
        if self.noise is None and self.epsilon is None:
            raise ValueError("neither noise nor epsilon is given; give one of them")
        if self.clip is None and self.epsilon is not None:
            raise ValueError(
                f"epsilon is {self.epsilon:g} and clip is not set: a row without a largest norm has no sensitivity; "
                f"give clip"
            )
        if self.clip is None and self.mechanism == "laplace":
            raise ValueError("mechanism is laplace and clip is not set; give clip, or use gaussian")
        return self

    @property
    def sigma(self) -> float:
        """Standard deviation of normal noise, or the scale of Laplace noise, for rows that are clipped."""
        assert self.clip is not None
        if self.noise is not None:
            return self.noise * self.clip
        assert self.epsilon is not None
        if self.mechanism == "laplace":
            return 2 * self.clip / self.epsilon
        return gaussian_sigma(2 * self.clip, self.epsilon, self.delta)

    @property
    def promises(self) -> bool:
        """Whether a release has an epsilon."""
        return self.clip is not None and self.noise != 0


class LabelNoise(Rules):
    """Labels by randomized response."""

    epsilon: float = Field(gt=0)
    """Epsilon of a label, which is drawn once and kept; over all epochs."""
    corrected: bool = True
    """Whether the loss at the node knows the matrix of the draw."""


class GradientNoise(Rules):
    """Noise on the rows of gradients that an owner sends."""

    mechanism: Literal["gaussian", "max_norm", "marvell", "average"]
    """``gaussian`` clips and adds normal noise, as for smashed data; ``max_norm`` makes the expected norms of all rows
    equal; ``marvell`` hides which of two classes a row is of; ``average`` sends the mean of the batch for every row.
    Only ``gaussian`` has an epsilon."""
    clip: float | None = Field(default=None, gt=0)
    """With ``gaussian``: largest norm of a row of the gradient, which has 1 / b of a batch of b samples."""
    noise: float | None = Field(default=None, ge=0)
    """With ``gaussian``: standard deviation of the noise, in multiples of ``clip``."""
    error: float = Field(default=0.3, gt=0, lt=0.5)
    """With ``marvell``: smallest error with which a test tells the two classes of a row."""

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"mechanism": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _complete(self) -> GradientNoise:
        given = [name for name in ("clip", "noise") if getattr(self, name) is not None]
        if self.mechanism == "gaussian" and len(given) < 2:
            raise ValueError("mechanism is gaussian, which needs clip and noise; give both")
        if self.mechanism != "gaussian" and given:
            raise ValueError(f"{given[0]} belongs to gaussian, and mechanism is {self.mechanism}; leave it out")
        return self

    @property
    def promises(self) -> bool:
        """Whether a release has an epsilon."""
        return self.mechanism == "gaussian" and bool(self.noise)


class WeightNoise(Rules):
    """DP-SGD on the owner's part (Abadi et al. 2016, arXiv 1607.00133): rows of gradients are clipped, summed, and get
    normal noise."""

    clip: float = Field(gt=0, allow_inf_nan=True)
    """Largest norm of the gradient of one sample, over all weights of the part; ``.inf`` does not clip."""
    noise: float = Field(ge=0)
    """Standard deviation of the noise on the sum over a batch, in multiples of ``clip``."""
    delta: float = Field(default=DELTA, gt=0, lt=1)
    """Delta of what is said of the weights."""

    @model_validator(mode="after")
    def _bounded(self) -> WeightNoise:
        if self.clip == float("inf") and self.noise:
            raise ValueError("clip is infinite, and noise is in multiples of it; give a finite clip, or noise: 0")
        return self


class ReportNoise(Rules):
    """Noise on an owner's mean loss."""

    epsilon: float = Field(default=0.1, gt=0)
    """Epsilon of one report."""
    clip: float = Field(default=5.0, gt=0)
    """Largest mean loss that is reported."""


class Budget(Rules):
    """The most that an owner promises away."""

    epsilon: float = Field(gt=0)
    """Largest epsilon of all that has left an owner; a round that would exceed it is refused before its first
    message."""
    delta: float = Field(default=DELTA, gt=0, lt=1)
    """Delta that belongs to it; below 1 / n for an owner of n samples."""


class PrivacyRules(Rules):
    """Guards at the owners, and the account of what leaves them."""

    z: SmashedNoise | None = None
    """Clipping and noise on smashed data, ``{mechanism: gaussian, clip: 1, noise: 0.5}``."""
    labels: LabelNoise | None = None
    """Labels that a node gets are flipped at random, ``{epsilon: 2}``."""
    g: GradientNoise | None = None
    """Noise on gradients that owners send, where the last part is theirs: ``max_norm``, or ``{mechanism: gaussian,
    clip: ..., noise: ...}``."""
    weights: WeightNoise | None = None
    """DP-SGD on the owners' parts, ``{clip: 1.0, noise: 1.1}``; needs the extra ``privacy``."""
    nopeek: float = Field(default=0.0, ge=0, lt=1)
    """Weight alpha of the distance correlation of inputs and smashed data in the loss of the owner's part, where the
    task's loss has 1 - alpha; 0 leaves it out, and batches of fewer than 8 samples go without. No guarantee."""
    project: int | None = Field(default=None, ge=1)
    """Number of coordinates of the smashed data of a sample that cross, in a fixed random subspace. No guarantee, but
    fewer numbers need less noise."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the smashed data that is set to 0. No guarantee."""
    reports: Reports | ReportNoise = "plain"
    """An owner's mean loss: ``plain``; ``noisy``, or ``{epsilon: 0.1, clip: 5}``, with Laplace noise; ``none`` leaves
    it out."""
    secret_file: PathText | None = None
    """File with 32 random bytes at each owner, from which its noise is drawn; ``{owner}`` in it stands for the owner's
    name."""
    ledger: PathText | None = None
    """Folder in which every owner keeps the file of what has left it; None takes ``ledger`` in the run folder."""
    budget: Budget | None = None
    """The most that an owner promises away, ``{epsilon: 8, delta: 1e-5}``."""
    rehearsal: bool = False
    """Draw noise from the seed of the run, which everybody has, for a trial without secrets: nothing is guaranteed."""
    alarm: bool = False
    """Stop an owner whose gradients do not depend on its labels in the first two epochs, as those of a server that
    trains something else."""

    @field_validator("reports", mode="before")
    @classmethod
    def _none_as_text(cls, value: Any) -> Any:
        return "none" if value is None else value

    @model_validator(mode="after")
    def _together(self) -> PrivacyRules:
        if self.weights is not None and self.nopeek:
            raise ValueError(
                "nopeek joins the samples of a batch, and weights clips the gradient of each; leave one of them out"
            )
        if self.weights is not None and self.g is not None and self.g.mechanism != "gaussian":
            raise ValueError(
                f"g: {self.g.mechanism} joins the samples of a batch, and weights clips the gradient of each; use "
                f"gaussian, or leave one of them out"
            )
        if self.rehearsal and self.secret_file is not None:
            raise ValueError(
                "rehearsal draws noise from the seed, and secret_file names a secret; leave one of them out"
            )
        if self.budget is not None:
            self._require_promise(self.budget)
        if self.drawn and self.secret_file is None and not self.rehearsal:
            raise ValueError(
                f"{self.drawn[0]} draws random numbers, and noise from the seed of the run could be drawn again by "
                f"everybody; set secret_file to a file with 32 random bytes at each owner, or rehearsal: true to try it"
            )
        return self

    def _require_promise(self, budget: Budget) -> None:
        said = f"budget promises epsilon {budget.epsilon:g}"
        if self.secret_file is None:
            raise ValueError(f"{said}, which takes a secret; set secret_file, or leave budget out")
        for name, guard in (("z", self.z), ("g", self.g)):
            if guard is not None and not guard.promises:
                raise ValueError(
                    f"{said}, and {name} has {'no clip' if guard.clip is None else 'noise 0'}, which promises nothing; "
                    f"give it clip and noise"
                )
        if self.weights is not None and not self.weights.noise:
            raise ValueError(f"{said}, and weights has noise 0, which promises nothing; give it noise")
        if not any((self.z, self.labels, self.g, self.weights, self.report_noise)):
            raise ValueError(f"{said}, and no guard has an epsilon; set z, labels, g, weights or reports: noisy")

    @property
    def is_on(self) -> bool:
        """Whether anything is set."""
        return self != type(self)()

    @property
    def guards_smashed(self) -> bool:
        """Whether smashed data change before they leave."""
        return self.z is not None or self.project is not None or self.dropout > 0

    @property
    def report_noise(self) -> ReportNoise | None:
        """Noise on reports; None where there is none."""
        if isinstance(self.reports, ReportNoise):
            return self.reports
        return ReportNoise() if self.reports == "noisy" else None

    @property
    def drawn(self) -> list[str]:
        """The guards that draw random numbers, by key."""
        found = {
            "z": self.z is not None and self.z.noise != 0,
            "labels": self.labels is not None,
            "g": self.g is not None and self.g.mechanism != "average" and self.g.noise != 0,
            "weights": self.weights is not None and self.weights.noise > 0,
            "dropout": self.dropout > 0,
            "reports": self.report_noise is not None,
        }
        return [key for key, draws in found.items() if draws]

    @property
    def delta(self) -> float:
        """Delta of all that is said."""
        if self.budget is not None:
            return self.budget.delta
        return self.weights.delta if self.weights is not None else self.z.delta if self.z is not None else DELTA


OFF = PrivacyRules()


def mu_of_weights(rules: WeightNoise) -> float:
    """Return mu of one step with a sample in it, for one sample in place of another."""
    return 2.0 / rules.noise if rules.noise else float("inf")


__all__ = ["OFF", "Budget", "PrivacyRules", "mu_for", "mu_of_weights"]
