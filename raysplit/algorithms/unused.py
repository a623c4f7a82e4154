"""What a configuration tells about a run before any data are read, and the settings that a method does not use.

A setting is heeded or refused: a method lists in `Algorithm.unused` the shared settings that would have no effect with
it, each with the reason. `refuse_unused` refuses a run that sets one, `codecs_left_out` names codecs for values that
are not sent, and ``docs/configuration.md`` shows the lists as a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Protocol

from raysplit.actors.aggregation import UpdateRules
from raysplit.guards.rules import PrivacyRules
from raysplit.schedulers.cohort import CohortRules
from raysplit.tasks import KINDS, SEVERAL


@dataclass(frozen=True, kw_only=True)
class RunOutline:
    """What is known of a run from its settings alone.

    Attributes:
        owners: the names of all owners, in owner order.
        rounds: rounds of one training.
        loss: name or import path of the loss.
        cohort_size: owners drawn per round; None takes all.
        updates: rules that refuse updates and combine the others.
        cohort: rules for how long a round waits and for whom.
        may_lose_owners: whether a round may end with fewer owners than were drawn.
        min_owners: smallest number of owners with which a round of an elastic run begins; None for other runs.
        given: the shared settings that differ from their defaults, by key, such as ``training.server_optimizer``.
    """

    owners: tuple[str, ...]
    rounds: int
    loss: str = "cross_entropy"
    cohort_size: int | None = None
    updates: UpdateRules = field(default_factory=UpdateRules)
    cohort: CohortRules = field(default_factory=CohortRules)
    may_lose_owners: bool = False
    min_owners: int | None = None
    given: Mapping[str, Any] = field(default_factory=dict)

    def require_owners(self, setting: str, names: Mapping[str, Any]) -> None:
        """Raise ``ValueError`` if the keys of an option name an owner that there is not."""
        strangers = sorted(set(names) - set(self.owners))
        if strangers:
            more = f", ..., {self.owners[-1]}" if len(self.owners) > 3 else ""
            raise ValueError(
                f"algorithm.{setting} names {strangers[0]!r}, which is not an owner; the {len(self.owners)} owners are "
                f"{', '.join(self.owners[:3])}{more}"
            )


class Method(Protocol):
    """What is read of a class of algorithms here."""

    name: str
    title: str
    unused: Mapping[str, str]
    losses: tuple[str, ...]
    clips_models: bool
    works_apart: bool
    comes_and_goes: bool
    vectorizes: bool
    sends_gradients: bool


UPDATE_RULES = ("reliability.aggregation", "reliability.tolerated", "reliability.max_update_norm")
SERVER_OPTIMIZER = ("training.server_optimizer", "training.server_optimizer_state")
OPEN_ROUNDS = ("reliability.over_selection", "reliability.round_deadline_s", "reliability.late")
ELASTIC = "cluster.elastic"
DIVERGENCE = "evaluation.divergence_every"

PRIVACY = tuple(f"privacy.{key}" for key in PrivacyRules.model_fields)
WEIGHT_BY = "training.weight_by"
INIT, GRADIENT_GUARD, LABEL_GUARD, ALARM = "model.init", "privacy.g", "privacy.labels", "privacy.alarm"
CUT_GUARDS = ("privacy.z", LABEL_GUARD, "privacy.nopeek", "privacy.project", "privacy.dropout", ALARM)
NO_GUARDS = dict.fromkeys((*PRIVACY, INIT), "its owners have no guards")
OWN_LABELS = dict.fromkeys((LABEL_GUARD, ALARM), "labels stay at their owners")
SEVERAL_LABELS = dict.fromkeys((LABEL_GUARD, ALARM), "samples have a label for each of several tasks")

LINKS, LABELS = "links.", "links.labels"
CUT_LINKS = ("links.smashed", "links.gradients", LABELS)

ACCUMULATE, CLIP = "training.accumulate", "training.clip"
JOINT_STEPS = {ACCUMULATE: "its steps join the batches of all owners already; use larger batches"}
OWN_PASSES = dict.fromkeys(
    (ACCUMULATE, "model.precision", "model.recompute"), "its owners train several models in one pass of their own"
)
OWN_PHASES = {
    **dict.fromkeys(
        ("training.warmup_steps", "training.lr_schedule_per"), "its schedules begin anew with every phase of the run"
    ),
    **dict.fromkeys(("model.freeze", "model.train", "model.lora"), "its groups of tasks train models of their own"),
}
NO_NODE = dict.fromkeys((*SERVER_OPTIMIZER, *CUT_LINKS, *CUT_GUARDS), "the owners train the whole model")
OWN_RULES_AT_NODES = dict.fromkeys(SERVER_OPTIMIZER, "replicas at compute nodes are trained as the owners' parts are")
NO_AVERAGE = dict.fromkeys((*UPDATE_RULES, "links.weights", WEIGHT_BY), "no updates of owners are averaged")
BUFFERS = "training.buffers"
OWN_STATISTICS = {BUFFERS: "owners keep their own statistics, as nothing replaces their weights"}
NO_COMMON_MODEL = {DIVERGENCE: "owners' gradients are compared at one common model, which it does not have"}
_TOGETHER = dict.fromkeys(OPEN_ROUNDS, "a round of it waits for all owners that were drawn")
_VECTORIZE = {"training.vectorize": "its owners do not each train a whole model by themselves"}
_ALL_OWNERS = {ELASTIC: "it needs all its owners in every round"}


def unused_by(method: Method) -> dict[str, str]:
    """Return the shared settings that a method does not use, with the reasons."""
    together = {} if method.works_apart else _TOGETHER
    alone = {} if method.vectorizes else _VECTORIZE
    sent = {} if method.sends_gradients else {GRADIENT_GUARD: "its owners send no gradients of smashed data"}
    return {**alone, **together, **({} if method.comes_and_goes else _ALL_OWNERS), **sent, **method.unused}


def refuse_unused(method: Method, outline: RunOutline, others: Mapping[str, Method]) -> None:
    """Raise ``ValueError`` for a setting that would have no effect, naming methods that use it.

    Args:
        method: the method of the run.
        outline: the run.
        others: the methods to choose from, by name.
    """
    for key, reason in unused_by(method).items():
        if key in outline.given and not key.startswith(LINKS):
            able = [name for name, other in others.items() if key not in unused_by(other)]
            raise ValueError(
                f"{key} is {_shown(outline.given[key])}, and {method.name} does not use it: {reason}; leave it out, or "
                f"use one of {', '.join(able)}"
            )
    clip = outline.given.get(CLIP)
    if clip is not None and clip.scope == "model" and not method.clips_models:
        able = [name for name, other in others.items() if other.clips_models]
        raise ValueError(
            f"{CLIP} takes the norm of the gradients of a whole model, and with {method.name} a step is not that of "
            f"one model: its parts follow different losses; add scope: part to clip each part by itself, or use one of "
            f"{', '.join(able)}"
        )
    if method.losses and outline.loss not in method.losses:
        able = [name for name, other in others.items() if not other.losses or outline.loss in other.losses]
        if outline.loss == SEVERAL:
            raise ValueError(
                f"the run has several tasks with a kind of their own, and {method.name} trains with "
                f"{' or '.join(losses_of(method)).replace('any task', 'any one task')} only; use one of "
                f"{', '.join(able)}"
            )
        if outline.loss in KINDS:
            raise ValueError(
                f"the task is {outline.loss}, and {method.name} trains with {' or '.join(losses_of(method))} only; use "
                f"one of {', '.join(able)}"
            )
        raise ValueError(
            f"training.loss is {outline.loss!r}, and {method.name} trains with {' or '.join(losses_of(method))} only; "
            f"set training.loss to {method.losses[0]} if the data fit it, or use one of {', '.join(able)}"
        )


def losses_of(method: Method) -> list[str]:
    """Return the losses that a method trains with, all kinds of tasks as one; empty for any loss."""
    names = [name for name in method.losses if name not in KINDS]
    return names + ["any task"] * (len(names) < len(method.losses))


def codecs_left_out(method: Method, outline: RunOutline) -> str | None:
    """Return the sentence for codecs of values that a method does not send; None where it sends all of them.

    They are no error, so that one file serves a comparison of methods.
    """
    unused = {
        key: reason for key, reason in unused_by(method).items() if key in outline.given and key.startswith(LINKS)
    }
    if not unused:
        return None
    reasons = " and ".join(dict.fromkeys(unused.values()))
    return f"{', '.join(unused)} left out with {method.name}, which does not send such values: {reasons}"


def refuse_too_few(outline: RunOutline) -> None:
    """Raise ``ValueError`` if a round may have fewer updates than the rule for their combination needs."""
    rules, size = outline.updates, min(outline.cohort_size or len(outline.owners), len(outline.owners))
    needed = rules.num_needed
    if size < needed:
        raise ValueError(
            f"reliability.aggregation {rules.aggregation} needs {needed} updates to tolerate {rules.tolerated} wrong, "
            f"and a round has {size} owners; lower reliability.tolerated, or take a larger cohort"
        )
    if outline.min_owners is not None and outline.min_owners < needed:
        raise ValueError(
            f"reliability.aggregation {rules.aggregation} needs {needed} updates to tolerate {rules.tolerated} wrong, "
            f"and cluster.elastic.min_owners lets a round begin with {outline.min_owners}; set it to {needed} or more"
        )
    least = outline.cohort.quorum_of(size)
    if outline.may_lose_owners and least < needed:
        quorum = ceil(needed / size * 100) / 100
        raise ValueError(
            f"reliability.aggregation {rules.aggregation} needs {needed} updates to tolerate {rules.tolerated} wrong, "
            f"and reliability.quorum {outline.cohort.quorum:g} lets a round of {size} owners end with {least}; set "
            f"reliability.quorum to {quorum:g} or more"
        )


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str | int | float) else "set"
