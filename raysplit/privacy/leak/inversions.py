"""Reconstructions from smashed data, each with what its attacker knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from raysplit.attacks.images.affine import inverse_affine
from raysplit.attacks.images.inverse import inverse
from raysplit.attacks.images.sdar import PSEUDO_CLIENT, SDAR, ServerStep, sdar
from raysplit.attacks.images.unsplit import unsplit
from raysplit.attacks.pace import Pace
from raysplit.cluster.links.tap import Message
from raysplit.privacy.leak.outcome import Outcome, ended, first, of_pictures
from raysplit.privacy.seen.subject import Defend, Subject, UnitPart, Weights, as_one, joined, use_batch_statistics
from raysplit.privacy.seen.views import Sight, View

LEVELS: Mapping[Weights, str] = {"present": "K3", "initial": "K2", "unknown": "K1"}
"""What an attacker knows of the model, by the weights that it has."""
UNSPLIT_ROWS = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """What an attack on smashed data is about.

    Attributes:
        subject: the model and the samples.
        sight: who sees what.
        view: the cut.
        defend: what is done to the smashed data before they leave; None for nothing.
    """

    subject: Subject
    sight: Sight
    view: View
    defend: Defend | None = None

    def sent(self, weights: Weights = "present") -> Tensor:
        """Return what the observer gets of the attacked samples."""
        return self.subject.encoder(self.view.cut, weights, self.defend)(self.subject.samples.victims.x)


def inverted(scene: Scene, knows: Weights, pace: Pace) -> Outcome:
    """Train a decoder of what an owner with these weights sends, and decode what this one sends."""
    samples, subject = scene.subject.samples, scene.subject
    encode = subject.encoder(scene.view.cut, knows, scene.defend)
    guess = inverse(encode, scene.sent(), samples.aux.x, seed=subject.seed, pace=pace)
    return _outcome("inverse", scene, knows, _data(scene, "D2"), guess, pace)


def inverted_affinely(scene: Scene, knows: Weights, pace: Pace) -> Outcome:
    """Regress samples on what an owner with these weights sends."""
    samples = scene.subject.samples
    encode = scene.subject.encoder(scene.view.cut, knows, scene.defend)
    guess = inverse_affine(encode, scene.sent(), samples.aux.x)
    return _outcome("inverse_affine", scene, knows, _data(scene, "D2"), guess, pace)


def unsplitted(scene: Scene, knows: Weights, pace: Pace) -> Outcome:
    """Search samples and weights together, for a few samples at a time."""
    subject = scene.subject
    rows = slice(UNSPLIT_ROWS)
    z = scene.sent()[rows]
    clone = _clone(subject, scene.view, "initial" if knows == "present" else knows)
    guess, fit = unsplit(z, clone, tuple(subject.samples.victims.x.shape[1:]), pace=pace)
    found = _outcome("unsplit", scene, "initial" if knows == "present" else knows, "D0", guess, pace)
    return Outcome(row={**found.row, "fit": fit}, samples=found.samples, shown=found.shown, original=found.original)


def imitated(
    name: str, scene: Scene, knows: Weights, record: Sequence[Message], pace: Pace, steps: int | None = None
) -> Outcome:
    """Let a copy of the owner's part learn from the server's part of every recorded step, and invert the copy.

    Raises ``ValueError`` where the attacker's samples have no labels.
    """
    subject, samples = scene.subject, scene.subject.samples
    if samples.aux.y is None:
        raise ValueError(f"{name} trains a copy of the owner's part, for which its samples need a class label each")
    _, top = subject.halves(scene.view.cut, "initial")
    top = top.requires_grad_(False)
    behind = as_one(top)

    def at(message: Message) -> Callable[[Tensor], Tensor]:
        def run(z: Tensor) -> Tensor:
            top.load_state_dict(message.beside)
            return behind(subject.spec.cast(z))  # type: ignore[arg-type]

        return run

    steps_seen = [ServerStep(z=joined(tuple(m.tensors.values())), top=at(m)) for m in record]
    copy = _clone(subject, scene.view, knows)
    more: dict[str, Any] = {} if steps is None else {"steps": steps}
    guess = sdar(
        steps_seen,
        copy,
        scene.sent(),
        samples.aux.x,
        samples.aux.y,
        strengths=SDAR if name == "sdar" else PSEUDO_CLIENT,
        seed=subject.seed,
        pace=pace,
        **more,
    )
    return _outcome(name, scene, knows, _data(scene, "D3"), guess, pace)


class _One(nn.Module):
    """A part whose outputs are one tensor, with its weights as parameters."""

    def __init__(self, part: UnitPart) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return joined(self.part(x))


def _clone(subject: Subject, view: View, knows: Weights) -> nn.Module:
    bottom, _ = subject.halves(view.cut, knows)
    use_batch_statistics(bottom)
    return _One(UnitPart(bottom.requires_grad_(True), subject.samples.unit, subject.spec))


def _data(scene: Scene, level: str) -> str:
    return level if scene.subject.samples.aux_name == "same" else "D1"


def _outcome(name: str, scene: Scene, knows: Weights, data: str, guess: Tensor, pace: Pace) -> Outcome:
    samples = scene.subject.samples
    x = samples.victims.x[: len(guess)]
    figures, columns = of_pictures(x, guess, samples.aux.x.mean(dim=0))
    observer = scene.view.observer
    if knows == "present":
        observer = f"{observer}+{scene.sight.knows_part}"
    row = {
        "name": name,
        "kind": "inversion",
        "cut": scene.view.cut,
        "observer": observer,
        "knows": LEVELS[knows],
        "data": data,
        "round": "last",
        "rows": len(x),
        **figures,
        **ended(pace),
    }
    return Outcome(row=row, samples=columns, shown=first(guess), original=first(x))
