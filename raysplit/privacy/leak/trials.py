"""The attacks that fit a run, in the order in which they are tried, and why others do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Literal

from torch import Tensor, nn

from raysplit.actors.parts.stage import Stage
from raysplit.algorithms.base import Algorithm
from raysplit.attacks.pace import Pace
from raysplit.cluster.links.kinds import Kind
from raysplit.cluster.links.tap import Message
from raysplit.experiment.experiment import Experiment
from raysplit.privacy.leak import guessing, inversions, whole_model
from raysplit.privacy.leak.inversions import Scene
from raysplit.privacy.leak.outcome import Outcome
from raysplit.privacy.seen.defended import defence_at
from raysplit.privacy.seen.replay import replayed
from raysplit.privacy.seen.subject import Subject, Weights
from raysplit.privacy.seen.views import Sight, View

Knows = Literal["weights", "initial", "architecture"]
KNOWS: dict[Knows, Weights] = {"weights": "present", "initial": "initial", "architecture": "unknown"}
CHEAP = "cheap"
ATTACKS = ("inverse", "inverse_affine", "unsplit", "pseudo_client", "sdar", "labels", "gradient", "membership")
_RECORD_BYTES = 2**30
_LEAST_STEPS = 16
ONLY_BY_NAME = ("inverse_affine", "unsplit", "pseudo_client", "sdar")
"""Attacks that are tried only where they are named, or with ``all``."""
BATCHES = (1, 4)
"""Batch sizes whose gradients are inverted."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One attack to try.

    Attributes:
        attack: its name in `ATTACKS`.
        slug: what tells it from the other trials of a measurement.
        observers: parties that can try it.
        run: tries it within the time of a `Pace`.
    """

    attack: str
    slug: str
    observers: tuple[str, ...]
    run: Callable[[Pace], list[Outcome]]


class Misfit(ValueError):
    """Exception for an attack that does not fit a run; the message says why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What trials are made of.

    Attributes:
        experiment: the run.
        algorithm: its algorithm, bound to the setting.
        owner: the owner that is attacked.
        subject: its model and samples.
        sight: who sees what of it.
        guards_gradients: whether gradients that leave the owner are changed.
        rounds: the rounds of records, counted from 0, or ``last``.
        knows: what attackers have of the model; None for what is usual for each attack.
        tell: is told of replayed rounds.
    """

    experiment: Experiment
    algorithm: Algorithm
    owner: str
    subject: Subject
    sight: Sight
    guards_gradients: bool
    rounds: tuple[int | str, ...]
    knows: Knows | None
    tell: Callable[[int, int], None] | None = None

    @property
    def usual(self) -> tuple[Weights, ...]:
        """The initial weights where they are public, and other ones."""
        return ("unknown",) if self.experiment.setting.init == "owners" else ("initial", "unknown")

    def scene(self, view: View) -> Scene:
        """Return what an attack at a cut is about."""
        return Scene(subject=self.subject, sight=self.sight, view=view, defend=defence_at(self.experiment, view))

    @property
    def watched(self) -> list[int]:
        """The rounds that an attack of many steps watches: all of them where the last weights are attacked."""
        numbers = [r for r in self.rounds if isinstance(r, int)]
        return numbers if numbers and "last" not in self.rounds else list(range(self.algorithm.num_rounds))

    @property
    def has_classes(self) -> bool:
        """Whether every attacked sample has one class label, which the loss of the run is of."""
        task, loss = self.experiment.setting.task, self.experiment.setting.training.loss
        kind = task.kind if task is not None else loss
        return self.subject.samples.victims.y is not None and kind in ("cross_entropy", "classification")


def trials_of(attack: str, given: Material) -> list[Trial]:
    """Return the trials of one attack. Raises `Misfit` where it does not fit the run."""
    return _MAKERS[attack](given)


def default_attacks(given: Material) -> tuple[str, ...]:
    """Return the attacks that are tried where none is named."""
    if not given.sight.views:
        return ("gradient", "membership")
    return ("inverse", "labels") if given.sight.keeps_labels else ("inverse",)


def _inversions(attack: str, usual: Sequence[Weights], run: Callable[..., Outcome], given: Material) -> list[Trial]:
    if not given.sight.views:
        raise Misfit("no smashed data leave an owner that holds the whole model")
    levels: Sequence[Weights] = usual if given.knows is None else (KNOWS[given.knows],)
    if "initial" in levels and given.usual == ("unknown",):
        if given.knows is not None:
            raise Misfit("the initial weights come from a secret of the owners (model.init: owners)")
        levels = list(dict.fromkeys("unknown" if level == "initial" else level for level in levels))
    return [
        Trial(
            attack=attack,
            slug=f"{attack}-{view.cut}-{weights}",
            observers=(view.observer,),
            run=partial(_one, run, given.scene(view), weights),
        )
        for view in given.sight.views
        for weights in levels
    ]


def _one(run: Callable[..., Outcome], *arguments: Any) -> list[Outcome]:
    return [run(*arguments)]


def _imitations(attack: str, given: Material) -> list[Trial]:
    if not given.has_classes or given.subject.samples.aux.y is None:
        raise Misfit("a copy of the owner's part is trained by class labels, and these samples have none")
    views = [view for view in given.sight.views if view.number == 0 and not given.sight.keeps_labels]
    if not views:
        raise Misfit("it needs a server that holds the rest of the model, up to the loss")
    levels = given.usual if given.knows is None else (KNOWS[given.knows],)
    record = _Record(given, given.watched)
    return [
        Trial(
            attack=attack,
            slug=f"{attack}-{view.cut}-{weights}-{given.watched[0]}-{given.watched[-1]}",
            observers=(view.observer,),
            run=partial(_imitation, attack, given.scene(view), weights, record),
        )
        for view in views
        for weights in levels
    ]


def _imitation(attack: str, scene: Scene, weights: Weights, record: _Record, pace: Pace) -> list[Outcome]:
    return [inversions.imitated(attack, scene, weights, record.messages(), pace)]


class _Record:
    """The smashed data of an owner with the weights of the server that got them, replayed when they are needed."""

    def __init__(self, given: Material, rounds: Sequence[int]) -> None:
        self._given, self._rounds = given, rounds
        self._found: list[Message] | None = None

    def messages(self) -> list[Message]:
        """Return the messages of all rounds."""
        if self._found is None:
            owner = self._given.owner
            every, seen = self._every(), count()

            def wanted(source: str, destination: str, kind: Kind, step: Any) -> bool:
                return source == owner and kind == "smashed" and next(seen) % every == 0

            self._found = replayed(
                self._given.experiment,
                self._rounds,
                wanted,
                beside=partial(_weights_for, owner),
                tell=self._given.tell,
            )
        return self._found

    def _every(self) -> int:
        """Return of how many steps one is kept, so that the weights of all take no more than `_RECORD_BYTES`."""
        setting = self._given.experiment.setting
        batches = -(-len(setting.owners[self._given.owner].shard) // self._given.subject.batch_size)
        steps = batches * setting.local_epochs * len(self._rounds)
        weights: int = sum(value.nbytes for value in (self._given.subject.state or {}).values())
        return max(1, -(-steps // max(_LEAST_STEPS, _RECORD_BYTES // max(1, weights))))


def _weights_for(owner: str, node: Any) -> dict[str, Tensor]:
    """Return the weights with which a node will answer an owner, as its own code finds them."""
    stage: Stage = node._stage(owner)
    module: nn.Module = stage.part.module
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _labels(given: Material) -> list[Trial]:
    view = next((view for view in given.sight.views if view.is_last), None)
    if view is None or not given.sight.keeps_labels:
        why = (
            "labels do not stay with the owner" if given.sight.views else "no gradient of smashed data leaves the owner"
        )
        raise Misfit(why)
    if not given.has_classes:
        raise Misfit("it guesses one class label for each sample, and these have none")
    return [
        Trial(
            attack="labels",
            slug=f"labels-{view.cut}-{round}",
            observers=(view.observer,),
            run=partial(_guesses, given, view, round),
        )
        for round in given.rounds
        if round != "last" or not given.guards_gradients
    ]


def _guesses(given: Material, view: View, round: int | str, pace: Pace) -> list[Outcome]:
    if round == "last":
        return guessing.guessed(guessing.present_rows(given.subject, view), given.subject, view, pace)
    assert isinstance(round, int)

    def wanted(source: str, destination: str, kind: Kind, step: Any) -> bool:
        is_g = source == given.owner and kind == "gradients"
        return (is_g or (destination == given.owner and kind == "smashed")) and getattr(step, "round", None) == round

    messages = replayed(given.experiment, [round], wanted, tell=given.tell)
    labels = given.experiment.setting.owners[given.owner].shard.y
    assert isinstance(labels, Tensor)
    rows = guessing.recorded_rows(messages, given.owner, labels, round)
    return guessing.guessed(rows, given.subject, view, pace)


def _gradients(given: Material) -> list[Trial]:
    if not given.has_classes:
        raise Misfit("it inverts the gradient of a cross-entropy, and these samples have no class labels")
    levels: list[Weights] = ["initial", "present"]
    if not given.sight.views:
        observer = given.sight.knows_part
        return [
            Trial(
                attack="gradient",
                slug=f"gradient-{weights}-{batch}",
                observers=(observer,),
                run=partial(_one, whole_model.gradient_inverted, given.subject, weights, batch, observer),
            )
            for weights in levels
            for batch in BATCHES
        ]
    if given.sight.knows_part != "aggregator":
        raise Misfit("nobody is sent the weights of the owner's part after each step")
    view = given.sight.views[0]
    observer = f"{view.observer}+{given.sight.knows_part}"
    return [
        Trial(
            attack="gradient",
            slug=f"gradient-{view.cut}-{weights}-{batch}",
            observers=(view.observer, given.sight.knows_part),
            run=partial(_one, whole_model.part_inverted, given.subject, view, weights, batch, observer),
        )
        for weights in levels
        for batch in BATCHES
    ]


def _membership(given: Material) -> list[Trial]:
    if not given.has_classes:
        raise Misfit("it ranks samples by their cross-entropy, and these have no class labels")
    setting = given.experiment.setting
    observer = given.sight.knows_part
    epochs = setting.rounds * setting.local_epochs
    run = partial(_one, whole_model.members_told, given.subject, observer, epochs)
    return [Trial(attack="membership", slug="membership", observers=(observer, "owner"), run=run)]


_MAKERS: dict[str, Callable[[Material], list[Trial]]] = {
    "inverse": partial(_inversions, "inverse", ("present", "initial"), inversions.inverted),
    "inverse_affine": partial(_inversions, "inverse_affine", ("present",), inversions.inverted_affinely),
    "unsplit": partial(_inversions, "unsplit", ("initial", "unknown"), inversions.unsplitted),
    "pseudo_client": partial(_imitations, "pseudo_client"),
    "sdar": partial(_imitations, "sdar"),
    "labels": _labels,
    "gradient": _gradients,
    "membership": _membership,
}
