"""The kinds of values that leave an owner, by the verb that it calls or answers.

The first duty of a ledger is to be complete: a verb that is not listed leaves the owner as ``other``, with nothing
promised. A test walks over the verbs of all owners and finds each of them here.
"""

from __future__ import annotations

from collections.abc import Mapping

VALUES: Mapping[str, str] = {
    "z": "smashed data",
    "y": "labels",
    "g": "gradients of smashed data",
    "weights": "weights of the owner's part",
    "norms": "norms of gradients, and factors from them",
    "tangent": "derivatives of smashed data along its weights",
    "local_gradient": "gradient of its whole shard",
    "mean_gradient": "mean gradient of a round",
    "affinity": "affinities of tasks",
    "report": "mean loss of a round, with the number of samples and steps",
    "evaluation": "sums over its own test samples",
    "snapshot": "state for a checkpoint",
    "counts": "numbers of samples, targets and steps",
    "other": "values of a verb that is not known",
}
"""The kinds of values with what they are."""

ANSWERS: Mapping[str, str] = {
    "run_round": "report",
    "train": "report",
    "weights": "weights",
    "parts_state": "weights",
    "state_dict": "snapshot",
    "evaluate": "evaluation",
    "local_gradient": "local_gradient",
    "mean_gradient": "mean_gradient",
    "num_targets": "counts",
    "progress": "counts",
    "largest_gradient": "",
    "load_weights": "",
    "load_parts": "",
    "load_state_dict": "",
    "set_learning_rate": "",
    "recut": "",
    "forget": "",
    "expects": "",
}
"""The verbs that owners answer, with the kind of the answer; empty where it tells nothing of samples: it is nothing, or
what another party has sent."""

CALLS: Mapping[str, str] = {
    "clip": "norms",
    "norms": "norms",
    "update": "norms",
    "linearise": "tangent",
    "products": "tangent",
    "note_curvature": "tangent",
    "submit": "weights",
    "submit_measured": "affinity",
    "average": "",
    "mean": "",
    "replica_state": "",
    "current": "",
    "run_round": "",
}
"""The verbs of others that owners call, with the kind of what they send, where the kind of the link does not tell
it."""

_OF_LINK: Mapping[str, str] = {"smashed": "z", "labels": "y", "gradients": "g", "weights": "weights"}


def answer_of(verb: str) -> str:
    """Return the kind of value that the answer to a verb has; empty for one that tells nothing."""
    return ANSWERS.get(verb, "other")


def value_of(kind: str) -> str:
    """Return the kind of value in a ledger of a kind on a link."""
    return _OF_LINK.get(kind, "other")


def sent_with(verb: str, kind: str) -> str:
    """Return the kind of value that an argument of a call has, from the verb and the kind on the link."""
    return _OF_LINK.get(kind) or CALLS.get(verb, "other")
