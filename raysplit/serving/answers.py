"""What the outputs of a head say: a class, labels, or an estimate in the units of its targets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from raysplit.models.classifier.export import ServingMeta


def answer_of(task: str, outputs: Tensor, meta: ServingMeta) -> dict[str, Any]:
    """Return the answer of a task as plain data.

    Args:
        task: name of the task.
        outputs: the outputs [K] of its head for one picture.
        meta: the description of the served model.

    Returns:
        ``class`` and ``probability``; of several labels those above one half, ``labels``, with their
        ``probabilities``; of a regression its ``estimate``, a number for each target.
    """
    names, kind = meta.classes[task], meta.kinds.get(task)
    if kind == "regression":
        units = meta.units[task]
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (units.mean, units.std))
        return {"estimate": (outputs.double().cpu() * std + mean).tolist()}
    if kind == "multi_label":
        shares = dict(zip(names, outputs.sigmoid().tolist(), strict=True))
        return {"labels": [name for name, share in shares.items() if share > 0.5], "probabilities": shares}
    shares_of = outputs.softmax(0)
    best = int(shares_of.argmax())
    return {"class": names[best], "probability": float(shares_of[best])}


def in_words(answer: dict[str, Any]) -> str:
    """Format an answer for a cell of a table."""
    if "estimate" in answer:
        return ", ".join(f"{value:.4g}" for value in answer["estimate"])
    if "labels" in answer:
        return ", ".join(answer["labels"]) or "none"
    return f"{answer['class']} {answer['probability']:.0%}"
