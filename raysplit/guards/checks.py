"""What is refused of the guards of a run by its settings alone, before any data are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raysplit.guards.secret import OWNER

_WITH_WEIGHTS = {
    "training.accumulate": "a step has the gradients of several batches",
    "training.clip": "gradients of single samples are clipped already, and the norms of whole gradients would leave",
    "model.precision": "gradients of single samples are computed in full precision",
    "model.recompute": "forward passes run twice, and the gradients of single samples would be counted twice",
    "model.lora": "Opacus has no gradients of single samples for adapters",
}


def refuse_together(given: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for guards that do not fit the settings beside them.

    Args:
        given: the settings that differ from their defaults, by key.
    """
    if "privacy.weights" in given:
        for key, reason in _WITH_WEIGHTS.items():
            if key in given:
                raise ValueError(f"privacy.weights and {key} do not go together: {reason}; leave one of them out")
    if "evaluation.divergence_every" in given and "privacy.budget" in given:
        raise ValueError(
            "evaluation.divergence_every sends the gradients of whole shards as they are, which no privacy.budget "
            "covers; leave one of them out"
        )
    if "model.init" in given:
        secret, rehearses = given.get("privacy.secret_file"), given.get("privacy.rehearsal")
        if secret is None and not rehearses:
            raise ValueError(
                "model.init is owners, and there is no secret that they share; set privacy.secret_file, or "
                "privacy.rehearsal: true for a trial"
            )
        if secret is not None and OWNER in secret:
            raise ValueError(
                f"model.init is owners, who share the secret of their initial weights, and privacy.secret_file "
                f"{secret!r} names one for each owner; leave {OWNER} out of it"
            )
