"""Labels that stay with an owner, from the gradients that it sends to the node before its last part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysplit.attacks.labels.completion import completion
from raysplit.attacks.labels.directions import classes_in, clusters, few_of_each, nearest, norms
from raysplit.attacks.labels.weights import by_trial, from_linear
from raysplit.attacks.pace import Pace
from raysplit.cluster.links.tap import Message
from raysplit.privacy.leak.inversions import LEVELS
from raysplit.privacy.leak.outcome import Outcome, ended, of_labels
from raysplit.privacy.measures.guesses import cluster_chance, named_clusters
from raysplit.privacy.measures.ranking import ranking
from raysplit.privacy.seen.subject import Subject, UnitPart, Weights, joined
from raysplit.privacy.seen.views import View

MOST_ROWS = 2048
FEW = (1, 5)
"""Samples of each class whose labels an attacker knows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Gradients:
    """Rows that the node before an owner's last part sees.

    Attributes:
        g: gradients [n, ...] of the smashed data that the owner gets.
        z: these smashed data [n, ...], which the node has sent.
        y: the labels [n], which it does not see.
        round: the round, counted from 0, or ``last``.
        weights: of the tail that the attacker can have at that moment.
    """

    g: Tensor
    z: Tensor
    y: Tensor
    round: int | str
    weights: Weights


def recorded_rows(messages: Sequence[Message], owner: str, labels: Tensor, round: int) -> Gradients:
    """Return the rows of a replayed round; ``labels`` are those of the owner's shard."""
    of_round = [m for m in messages if m.round == round]
    sent = [m for m in of_round if m.source == owner and m.kind == "gradients"]
    got = {m.step: m for m in of_round if m.destination == owner and m.kind == "smashed"}
    pairs = [(m, got[m.step]) for m in sent if m.step in got and m.samples is not None]
    g = torch.cat([joined(tuple(m.tensors.values())) for m, _ in pairs])[:MOST_ROWS]
    z = torch.cat([joined(tuple(back.tensors.values())) for _, back in pairs])[:MOST_ROWS]
    y = torch.cat([labels[m.samples] for m, _ in pairs])[:MOST_ROWS]
    return Gradients(g=g, z=z, y=y, round=round, weights="initial")


def present_rows(subject: Subject, view: View) -> Gradients:
    """Return the rows that the next step would send with the weights at the end of the run."""
    bottom, top = subject.halves(view.cut, "present")
    front = UnitPart(bottom, subject.samples.unit, subject.spec)
    x, y = subject.samples.victims.x, subject.samples.victims.y
    assert y is not None
    rows_z, rows_g = [], []
    for part, labels in zip(*(torch.split(rows, subject.batch_size) for rows in (x, y)), strict=True):
        with torch.no_grad():
            z = front(part)
        leaves = tuple(v.detach().requires_grad_() for v in (z if isinstance(z, tuple) else (z,)))
        loss = F.cross_entropy(top(*leaves).float(), labels)
        rows_g.append(joined(torch.autograd.grad(loss, leaves)))
        rows_z.append(joined(z))
    return Gradients(g=torch.cat(rows_g), z=torch.cat(rows_z), y=y, round="last", weights="present")


def guessed(rows: Gradients, subject: Subject, view: View, pace: Pace) -> list[Outcome]:
    """Guess the labels of rows in every way that fits the tail; the last one uses no gradient and is the control."""
    num_classes = subject.spec.num_classes
    found = []
    for name, knows, data, guess, kept, chance in _guesses(rows, subject, view, num_classes):
        figures, columns = of_labels(rows.y[kept], guess[kept], num_classes, chance)
        row = _row(name, rows, view, knows, data, int(kept.sum())) | figures | ended(pace)
        found.append(Outcome(row=row, samples=columns))
    found.append(_by_norm(rows, view, num_classes, pace))
    return found


_Guess = tuple[str, str, str, Tensor, Tensor, tuple[float, float] | None]
"""Name, knowledge of the model and of data, the guesses, which rows count, and the level of chance."""


def _guesses(rows: Gradients, subject: Subject, view: View, num_classes: int) -> Iterator[_Guess]:
    everything = torch.ones(len(rows.y), dtype=torch.bool)
    parts = clusters(rows.g, num_classes, subject.seed)
    named = torch.full_like(rows.y, -1)
    if bool((parts >= 0).any()):
        named[parts >= 0] = named_clusters(rows.y[parts >= 0], parts[parts >= 0], num_classes)
    chance = cluster_chance(rows.y, parts.clamp(min=0), num_classes, subject.seed)
    yield "clusters", "K0", "D2", named, everything, chance
    for count in FEW:
        known = few_of_each(rows.y, count, subject.seed)
        others = everything.clone()
        others[known] = False
        if not bool(others.any()):
            continue
        guess = nearest(rows.g, rows.g[known], rows.y[known])
        yield f"direction {count}", "K0", "D4", guess, others, None
        if count == FEW[-1]:
            control = completion(rows.z, rows.z[known], rows.y[known])
            yield f"completion {count}", "K0", "D4", control, others, None
    _, top = subject.halves(view.cut, rows.weights)
    linear = only_linear(top)
    if linear is not None:
        guess = from_linear(rows.g, linear.weight)
        yield "known weights", LEVELS[rows.weights], "D0", guess, everything, None
    tail = _tail(top)
    if rows.z.shape[1:] == rows.g.shape[1:]:
        guess = by_trial(rows.z, rows.g, tail, num_classes)
        yield "enumerate", LEVELS[rows.weights], "D0", guess, everything, None


def _tail(top: nn.Module) -> Callable[[Tensor], Tensor]:
    dtype = next((p.dtype for p in top.parameters()), torch.float32)

    def run(z: Tensor) -> Tensor:
        logits: Tensor = top(z.to(dtype))
        return logits.float()

    return run


def only_linear(top: nn.Module) -> nn.Linear | None:
    """Return the linear layer that a tail is; None where it has other layers with weights or a nonlinearity."""
    layers = [m for m in top.modules() if not list(m.children())]
    linear = [m for m in layers if isinstance(m, nn.Linear)]
    others = [m for m in layers if not isinstance(m, nn.Linear | nn.Flatten | nn.Identity | nn.Dropout)]
    return linear[0] if len(linear) == 1 and not others else None


def _by_norm(rows: Gradients, view: View, num_classes: int, pace: Pace) -> Outcome:
    """Rank rows by the norm of their gradients, each class against the rest; it tells of classes that are rare."""
    length = norms(rows.g)
    values = []
    for label in classes_in(rows.y):
        own = rows.y == label
        if bool(own.all()):
            continue
        auc = ranking(length[own], length[~own]).auc
        values.append(max(auc, 1 - auc))
    auc = sum(values) / len(values) if values else 0.5
    figures = {"auc": auc, "auc_chance": 0.5, "gain": 2 * auc - 1}
    return Outcome(row=_row("norm", rows, view, "K0", "D0", len(rows.y)) | figures | ended(pace))


def _row(name: str, rows: Gradients, view: View, knows: str, data: str, count: int) -> dict[str, object]:
    return {
        "name": name,
        "kind": "labels",
        "cut": view.cut,
        "observer": view.observer,
        "knows": knows,
        "data": data,
        "round": rows.round,
        "rows": count,
    }
