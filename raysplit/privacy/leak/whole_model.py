"""Attacks on who sees weights: samples behind an update, and members of the training set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from raysplit.attacks.images.gradient import gradient_inversion, matched
from raysplit.attacks.labels.counts import class_counts, labels_of_counts, single_label
from raysplit.attacks.labels.directions import classes_in
from raysplit.attacks.membership import reference_models, scores
from raysplit.attacks.networks import built
from raysplit.attacks.pace import Pace
from raysplit.models.frozen import load_trained
from raysplit.privacy.leak.inversions import LEVELS
from raysplit.privacy.leak.outcome import Outcome, ended, first, of_pictures
from raysplit.privacy.measures.ranking import ranking
from raysplit.privacy.measures.score import gain
from raysplit.privacy.seen.subject import Subject, UnitPart, Weights, joined, use_batch_statistics
from raysplit.privacy.seen.views import View

_SMOOTH, _SMOOTH_DENSE = 1e-3, 1e-4
_AUX_ROWS = 256
MOST_EPOCHS = 40


class _Whole(nn.Module):
    """A model that takes samples in the unit range and returns logits."""

    def __init__(self, subject: Subject, model: nn.Module) -> None:
        super().__init__()
        self.part = UnitPart(model, subject.samples.unit, subject.spec)

    def forward(self, x: Tensor) -> Tensor:
        return joined(self.part(x))


def whole(subject: Subject, weights: Weights) -> nn.Module:
    """Return the whole model in evaluation mode with the weights of the run's end or its beginning."""
    (model,) = subject.spec.parts(())
    if weights == "present":
        assert subject.state is not None
        load_trained(model, {key: subject.state[key] for key in model.state_dict() if key in subject.state})
    return _Whole(subject, model.eval())


def refuse_batch_statistics(model: nn.Module) -> None:
    """Raise ``ValueError`` for a model whose rows depend on one another in training."""
    if use_batch_statistics(model):
        raise ValueError(
            "gradients of a batch are inverted row by row, and this model has batch norm, which mixes rows; the "
            "attack is left out (with model options norm: group it can be tried)"
        )


def gradient_inverted(subject: Subject, weights: Weights, batch: int, observer: str, pace: Pace) -> Outcome:
    """Invert the gradient of one step of the whole model on a batch; labels are taken from it too.

    A round of many steps tells less; one step is the worst case.
    """
    model = whole(subject, weights)
    refuse_batch_statistics(model)
    model.eval()
    samples = subject.samples
    x, y = samples.victims.x[:batch], samples.victims.y
    assert y is not None
    names, parameters = _trained(model)
    target = _of_loss(model, names, parameters, x, y[:batch], graph=False)
    guessed = _labels(model, names, target, samples.aux.x[:_AUX_ROWS], batch)
    guess = gradient_inversion(
        lambda made: _of_loss(model, names, parameters, made, guessed, graph=True),
        target,
        tuple(x.shape),
        seed=subject.seed,
        pace=pace,
        smoothness=_smoothness(model),
    )
    right = float((guessed.sort().values == y[:batch].sort().values).double().mean())
    about = {"cut": None, "observer": observer, "labels_right": right}
    return _outcome("gradient", about, subject, weights, x, guess, pace)


def part_inverted(subject: Subject, view: View, weights: Weights, batch: int, observer: str, pace: Pace) -> Outcome:
    """Invert the gradient of the owner's part, whose outputs' gradient the server has made itself."""
    bottom, top = subject.halves(view.cut, weights)
    refuse_batch_statistics(bottom)
    bottom.eval()
    samples = subject.samples
    part = UnitPart(bottom, samples.unit, subject.spec)
    x, y = samples.victims.x[:batch], samples.victims.y
    assert y is not None
    z = part(x)
    leaves = tuple(v.detach().requires_grad_() for v in (z if isinstance(z, tuple) else (z,)))
    g = torch.autograd.grad(F.cross_entropy(top(*leaves).float(), y[:batch]), leaves)
    parameters = [p for p in bottom.parameters() if p.requires_grad]

    def of_part(made: Tensor) -> Sequence[Tensor]:
        out = part(made)
        outs = out if isinstance(out, tuple) else (out,)
        return torch.autograd.grad(outs, parameters, g, create_graph=True)

    target = [value.detach() for value in of_part(x)]
    guess = gradient_inversion(
        of_part, target, tuple(x.shape), seed=subject.seed, pace=pace, smoothness=_smoothness(bottom)
    )
    return _outcome("gradient", {"cut": view.cut, "observer": observer}, subject, weights, x, guess, pace)


def members_told(subject: Subject, observer: str, epochs: int, pace: Pace) -> Outcome:
    """Rank samples that were trained on and others by their losses under the model.

    Raises ``ValueError`` where there are no test samples with labels, which nobody was trained on.
    """
    samples = subject.samples
    y, unseen = samples.victims.y, samples.unseen
    if y is None or unseen.y is None or len(unseen) < 4:
        raise ValueError("membership compares samples of the owner with labeled test samples, and there are none")
    half = len(unseen) // 2
    others, aux = slice(half), slice(half, None)
    x, labels, members = _balanced(samples.victims.x, y, unseen.x[others], unseen.y[others])
    model = whole(subject, "present")
    references = reference_models(
        lambda number: built(lambda: _fresh(subject, number), subject.seed, "membership", str(number)),
        unseen.x[aux],
        unseen.y[aux],
        seed=subject.seed,
        pace=pace,
        epochs=min(epochs, MOST_EPOCHS),
    )
    found = scores(model, x, labels, references)
    named = {"loss": found.loss, "margin": found.margin}
    if found.calibrated is not None:
        named["calibrated"] = found.calibrated
    ranks = {name: ranking(score[:members], score[members:]) for name, score in named.items()}
    best = max(ranks, key=lambda name: ranks[name].auc)
    row = {
        "name": "membership",
        "kind": "membership",
        "cut": None,
        "observer": observer,
        "knows": "K3",
        "data": "D3",
        "round": "last",
        "rows": len(x),
        "score": best,
        "auc": ranks[best].auc,
        "auc_chance": 0.5,
        "advantage": ranks[best].advantage,
        "advantage_by_luck": 1 / math.sqrt(len(x)),
        "tpr_at_1": ranks[best].tpr_at_1,
        "tpr_at_5": ranks[best].tpr_at_5,
        "auc_by_score": {name: rank.auc for name, rank in ranks.items()},
        "gain": gain(ranks[best].auc, 0.5),
        **ended(pace),
    }
    return Outcome(row=row)


def _fresh(subject: Subject, number: int) -> nn.Module:
    (model,) = replace(subject.spec, seed=subject.spec.seed + 1 + number).parts(())
    return _Whole(subject, model.train())


def _balanced(x: Tensor, y: Tensor, others: Tensor, others_y: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return as many members as others of each class, members first, and how many members there are."""
    pairs = []
    for label in classes_in(y):
        own, rest = (y == label).nonzero()[:, 0], (others_y == label).nonzero()[:, 0]
        count = min(len(own), len(rest))
        pairs.append((own[:count], rest[:count]))
    own, rest = (torch.cat(side) for side in zip(*pairs, strict=True))
    return torch.cat([x[own], others[rest]]), torch.cat([y[own], others_y[rest]]), len(own)


def _trained(model: nn.Module) -> tuple[list[str], list[Tensor]]:
    found = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [name for name, _ in found], [p for _, p in found]


def _of_loss(
    model: nn.Module, names: Sequence[str], parameters: Sequence[Tensor], x: Tensor, y: Tensor, *, graph: bool
) -> Sequence[Tensor]:
    state: Mapping[str, Tensor] = dict(zip(names, parameters, strict=True))
    loss = F.cross_entropy(functional_call(model, dict(state), (x,)).float(), y)
    return torch.autograd.grad(loss, list(parameters), create_graph=graph)


def _labels(model: nn.Module, names: Sequence[str], target: Sequence[Tensor], aux: Tensor, batch: int) -> Tensor:
    """Take the labels of a batch from the gradient of the last bias, or from its number of classes evenly without."""
    with torch.no_grad():
        mean = model(aux).softmax(dim=1).mean(dim=0)
    last = next((g for g in reversed(target) if g.ndim == 1 and len(g) == len(mean)), None)
    if last is None:
        return torch.arange(batch) % len(mean)
    if batch == 1:
        return torch.tensor([single_label(last)])
    return labels_of_counts(class_counts(last, mean, batch), batch)


def _smoothness(model: nn.Module) -> float:
    has_maps = any(isinstance(m, nn.Conv2d) for m in model.modules())
    return _SMOOTH if has_maps else _SMOOTH_DENSE


def _outcome(
    name: str, about: Mapping[str, object], subject: Subject, weights: Weights, x: Tensor, guess: Tensor, pace: Pace
) -> Outcome:
    fitted = matched(x, guess)
    figures, columns = of_pictures(x, fitted, subject.samples.aux.x.mean(dim=0))
    row = {
        "name": name,
        "kind": "inversion",
        **about,
        "knows": LEVELS["present"],  # whoever sees an update has the weights before it
        "data": "D2",
        "round": "last" if weights == "present" else 0,
        "batch": len(x),
        "rows": len(x),
        **figures,
        **ended(pace),
    }
    return Outcome(row=row, samples=columns, shown=first(fitted), original=first(x))
