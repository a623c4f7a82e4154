"""The cheap measures of every cut of a model, before any training or with the weights of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from raysplit.config.run import RunConfig
from raysplit.experiment.experiment import Experiment
from raysplit.models.crossing.places import Place
from raysplit.privacy.leak.cheap import cheap
from raysplit.privacy.leak.run import built
from raysplit.privacy.seen.rows import SAME, require_rows, sampled
from raysplit.privacy.seen.subject import Cut, Subject, Weights
from raysplit.runs.records.read import read_models
from raysplit.seeding import one_thread

PLAN_ROWS = 256
METRICS = ("leak_fisher", "dcor2_unbiased")
"""The cheap measures by which a plan can be limited, each from 0 to 1 where 0 is nothing to learn."""


@dataclass(frozen=True, kw_only=True)
class CutLeak:
    """The cheap measures of one cut.

    Attributes:
        cut: number of units in front of it; its name where it is not at the end of a unit.
        name: of the module after which it is.
        num_bytes: that cross it, for one sample; None for a cut inside of a unit.
        figures: what `cheap` measures.
    """

    cut: Cut
    name: str
    num_bytes: int | None
    figures: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return plain data, for programs."""
        return {"cut": self.cut, "name": self.name, "bytes_per_sample": self.num_bytes, **self.figures}


def measure_cuts(
    config: RunConfig,
    *,
    cuts: Sequence[Cut] | None = None,
    owner: str | None = None,
    rows: int = PLAN_ROWS,
    weights: Path | None = None,
) -> list[CutLeak]:
    """Measure the cuts of a configured model on samples of one owner.

    Args:
        config: the checked configuration.
        cuts: the cuts to measure; None takes all at the ends of units that keep the inputs at their owner.
        owner: whose samples; None takes the first owner.
        rows: how many of its samples.
        weights: folder of a run whose weights are taken; None takes the initial ones.

    Raises:
        ValueError: the data are not here or of a kind that cannot be measured, the model cannot be cut there, or the
            run has no weights of this model.
    """
    experiment = built(config, owner)
    name = owner or next(iter(experiment.setting.owners))
    spec = experiment.begin().spec_of(name)
    require_rows(spec)
    places = {place.unit: place for place in spec.places() if place.unit and place.objection is None}
    wanted = list(cuts) if cuts is not None else [u for u, place in places.items() if not place.sent_inputs]
    with one_thread():
        samples = sampled(experiment, config, name, spec, rows=rows, aux=SAME, seed=experiment.seed)
        subject = Subject(
            spec=spec,
            state=None if weights is None else _state(weights, experiment, name),
            samples=samples,
            batch_size=experiment.batch_size,
            seed=experiment.seed,
        )
        known = "initial" if weights is None else "present"
        return [_measured(subject, cut, known, places.get(cut)) for cut in wanted]  # type: ignore[arg-type]


def _measured(subject: Subject, cut: Cut, weights: Weights, place: Place | None) -> CutLeak:
    figures = cheap(subject, cut, weights)
    name, num_bytes = (str(cut), None) if place is None else (place.name, place.num_bytes_per_sample)
    return CutLeak(cut=cut, name=name, num_bytes=num_bytes, figures=figures)


def _state(folder: Path, experiment: Experiment, owner: str) -> dict[str, Tensor]:
    """Return the weights of a run that trained the configured model. Raises ``ValueError`` where it did not."""
    states = read_models(folder)
    if not states:
        raise ValueError(f"{folder} has no model.pt yet; finish the run, or leave --weights out for initial weights")
    spec = experiment.begin().spec_of(owner)
    state = {**spec.fixed_state(), **states.get(owner, next(iter(states.values())))}
    wanted = {key: value.shape for key, value in spec.initial_state().items()}
    if {key: value.shape for key, value in state.items()} != wanted:
        raise ValueError(f"{folder} has the weights of another model than the one that is configured; name its own run")
    return state
