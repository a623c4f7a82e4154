"""Measure a run: rebuild its setting, try the attacks that fit, and write what they got beside chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from raysplit.algorithms.base import Algorithm
from raysplit.attacks.pace import Pace, Tell
from raysplit.config.build import build
from raysplit.config.run import RunConfig, load_recorded
from raysplit.data.sources.shards import STREAMED
from raysplit.experiment.experiment import Experiment
from raysplit.privacy.leak.cheap import cheap
from raysplit.privacy.leak.kept import FOLDER, KeptOutcomes, key_of, write_files
from raysplit.privacy.leak.outcome import Outcome
from raysplit.privacy.leak.page import page_of
from raysplit.privacy.leak.trials import ATTACKS, CHEAP, Knows, Material, Misfit, Trial, default_attacks, trials_of
from raysplit.privacy.seen.defended import changes_gradients, defence_at, noise_at
from raysplit.privacy.seen.rows import SAME, sampled
from raysplit.privacy.seen.subject import Subject
from raysplit.privacy.seen.views import sight_of
from raysplit.registry import one_of
from raysplit.runs.records.files import CONFIG
from raysplit.runs.records.read import read_models
from raysplit.seeding import one_thread

ALL = "all"
LAST = "last"


@dataclass(frozen=True, kw_only=True)
class LeakOptions:
    """What to measure.

    Attributes:
        attacks: names of attacks, ``cheap`` and ``all`` among them; empty for those that are usual for the run.
        observer: the party whose view is attacked; None for all.
        owner: the owner that is attacked; None takes the first.
        knows: what attackers have of the model; None for what is usual for each attack.
        aux: ``same``, or the name of the attacker's data set.
        rows: samples of the owner that are attacked.
        rounds: rounds of records, from 0, and ``last``; empty for the first and the last.
        seconds: longest time of one attack.
        undefended: task metric of the same run without defences, for the score; None without.
    """

    attacks: tuple[str, ...] = ()
    observer: str | None = None
    owner: str | None = None
    knows: Knows | None = None
    aux: str = SAME
    rows: int = 256
    rounds: tuple[int | str, ...] = ()
    seconds: float = 120.0
    undefended: float | None = None

    def __post_init__(self) -> None:
        for name in self.attacks:
            one_of("attack", name, [CHEAP, *ATTACKS, ALL])
        if self.rows < 8:
            raise ValueError(f"{self.rows} rows are too few for a figure; give at least 8")


@dataclass(frozen=True, kw_only=True, eq=False)
class Leak:
    """A measurement.

    Attributes:
        page: what ``leak.json`` holds.
        outcomes: of all attacks, with the samples that pictures show.
        mean: the mean sample [...] of the attackers' own, which is what chance is.
        folder: where the files are.
    """

    page: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]
    mean: Tensor
    folder: Path


def measure_run(
    folder: Path, options: LeakOptions, *, tell: Tell | None = None, began: Callable[[str], None] | None = None
) -> Leak:
    """Measure what a run leaks of one owner, and write the files into its folder ``leak``.

    Args:
        folder: of the run.
        options: what to measure.
        tell: is told of the steps of each attack.
        began: is told of each attack when it begins.

    Raises:
        ValueError: the run has no weights, its data are not here or of a kind that no attack is built for, or an
            attack that was named does not fit it.
    """
    config = load_recorded(folder)
    states = read_models(folder)
    if not states:
        raise ValueError(
            f"{folder} has no model.pt, whose weights are attacked; finish the run, or measure its cuts before "
            f"training: raysplit leak {folder / CONFIG} --cuts all"
        )
    experiment = built(config, options.owner)
    algorithm = experiment.begin()
    owner = options.owner or next(iter(experiment.setting.owners))
    label = _label(algorithm, owner, list(states))
    spec = algorithm.spec_of(label)
    with one_thread():
        samples = sampled(experiment, config, owner, spec, rows=options.rows, aux=options.aux, seed=experiment.seed)
        state = {**spec.fixed_state(), **states[label]}
        subject = Subject(
            spec=spec, state=state, samples=samples, batch_size=experiment.batch_size, seed=experiment.seed
        )
        given = _material(experiment, algorithm, owner, subject, options, tell)
        trials, left_out = chosen_trials(given, options)
        contents = [(folder / CONFIG).read_bytes(), (folder / "model.pt").read_bytes()]
        about = {"owner": owner, "aux": options.aux, "rows": options.rows}
        kept = KeptOutcomes(folder / FOLDER, key_of(about, *contents))
        outcomes = [outcome for trial in trials for outcome in _tried(trial, kept, options.seconds, tell, began)]
        measured = {
            str(view.cut): cheap(subject, view.cut, "present", defence_at(experiment, view), noise_at(experiment, view))
            for view in given.sight.views
        }
    page = page_of(folder, given, options.undefended, outcomes, measured, left_out)
    write_files(folder / FOLDER, page, outcomes)
    return Leak(page=page, outcomes=tuple(outcomes), mean=samples.aux.x.mean(dim=0), folder=folder / FOLDER)


def built(config: RunConfig, owner: str | None) -> Experiment:
    """Build the experiment of a configuration whose samples are all here. Raises ``ValueError`` where they are not."""
    if config.data.name == STREAMED:
        raise ValueError(
            "data.name is shards, whose owners read their own files where they are; measure with a set that can be "
            "loaded here as a rehearsal"
        )
    try:
        experiment = build(config)
    except (OSError, ValueError) as error:
        who = owner or "the owners"
        raise ValueError(
            f"the samples of {who} cannot be loaded here ({error}); run raysplit leak where they are, or rehearse with "
            f"a public set"
        ) from error
    if owner is not None and owner not in experiment.setting.owners:
        raise ValueError(one_of_owners(owner, list(experiment.setting.owners)))
    return experiment


def one_of_owners(owner: str, owners: Sequence[str]) -> str:
    """Return the message for an unknown owner."""
    shown = ", ".join(owners[:5]) + (f" ... {owners[-1]}" if len(owners) > 5 else "")
    return f"there is no owner {owner!r}; the owners are {shown}"


def _label(algorithm: Algorithm, owner: str, labels: Sequence[str]) -> str:
    """Return the label of the model that serves an owner."""
    if owner in labels:
        return owner
    return next((label for label in labels if owner in algorithm.owners_of(label)), labels[0])


def _material(
    experiment: Experiment,
    algorithm: Algorithm,
    owner: str,
    subject: Subject,
    options: LeakOptions,
    tell: Tell | None,
) -> Material:
    sight = sight_of(algorithm, owner)
    last = algorithm.num_rounds
    for round in options.rounds:
        if isinstance(round, int) and not 0 <= round < last:
            raise ValueError(f"round {round} is not among those of the run, 0 to {last - 1}")
    return Material(
        experiment=experiment,
        algorithm=algorithm,
        owner=owner,
        subject=subject,
        sight=sight,
        guards_gradients=changes_gradients(experiment, owner),
        rounds=options.rounds or (0, LAST),
        knows=options.knows,
        tell=None if tell is None else lambda done, total: tell("replay", done, total),
    )


def chosen_trials(given: Material, options: LeakOptions) -> tuple[list[Trial], dict[str, str]]:
    """Return the trials to run, and of the attacks that do not fit the reason by name.

    Raises ``ValueError`` for an attack that was named and does not fit, and where an observer sees nothing.
    """
    named = [name for name in options.attacks if name not in (CHEAP, ALL)]
    usual = ATTACKS if ALL in options.attacks else () if options.attacks else default_attacks(given)
    wanted = named or usual
    found: list[Trial] = []
    left_out: dict[str, str] = {}
    for name in wanted:
        try:
            found += trials_of(name, given)
        except Misfit as misfit:
            if name in named:
                raise ValueError(f"{name} does not fit this run: {misfit}") from None
            left_out[name] = str(misfit)
    if options.observer is None:
        return found, left_out
    seen = [trial for trial in found if any(o.startswith(options.observer) for o in trial.observers)]
    if found and not seen:
        names = sorted({name for trial in found for name in trial.observers})
        raise ValueError(
            f"no attack here is one of {options.observer!r}; those who see something are {', '.join(names)}"
        )
    return seen, left_out


def _tried(
    trial: Trial, kept: KeptOutcomes, seconds: float, tell: Tell | None, began: Callable[[str], None] | None
) -> list[Outcome]:
    before = kept.load(trial.slug)
    if before is not None:
        return before
    if began is not None:
        began(trial.slug)
    found = trial.run(Pace(trial.slug, seconds, tell))
    if not any(outcome.row.get("truncated") for outcome in found):
        kept.save(trial.slug, found)
    return found
