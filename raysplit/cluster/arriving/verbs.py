"""What each verb of the built-in parties carries: smashed data, gradients, weights, a loss, a report.

One table lists it by verb, as `raysplit.cluster.links.kinds` does for codecs. Verbs of a new party class that are
declared with `carries` are checked for finite numbers, as their form is not known; other verbs are not checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from raysplit.cluster.links.kinds import Crossing

_CALL_NAMES = ("step_id", "context")  # parameters that hold the owner's round and step of a call


@dataclass(frozen=True, eq=False)
class Holds:
    """What a verb carries: the content of its arguments and of its answer; empty where nothing is checked.

    Attributes:
        names: names of the positional parameters, in their order.
        contents: content of each parameter by name.
        rest: name of the positional arguments after them.
        answer: content of the answer; several in a tuple are joined by ``+``.
    """

    names: tuple[str, ...] = ()
    contents: Mapping[str, str] = field(default_factory=dict)
    rest: str = ""
    answer: str = ""
    _positional: dict[int, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def call_at(self) -> int:
        """The position of the `StepId` or `RoundContext`, beyond all arguments if there is none."""
        return next((i for i, name in enumerate(self.names) if name in _CALL_NAMES), 1 << 30)

    def of_arguments(self, num_args: int, kwargs: Mapping[str, Any]) -> Sequence[str]:
        """Return the contents of all arguments of a call, the keyword arguments last."""
        if kwargs:
            names = tuple(kwargs)
            return [self.content(i, num_args, names) for i in range(num_args + len(names))]
        found = self._positional.get(num_args)
        if found is None:
            found = self._positional[num_args] = tuple(self.content(i, num_args, ()) for i in range(num_args))
        return found

    def content(self, position: int, num_args: int, names: Sequence[str]) -> str:
        """Return the content of an argument by its position, the keyword arguments last."""
        if position >= num_args:
            return self.contents.get(names[position - num_args], "")
        return self.contents.get(self.names[position] if position < len(self.names) else self.rest, "")


def _holds(parameters: str = "", answer: str = "") -> Holds:
    """Parse ``"step_id, z: smashed, *more: weights"``; a parameter without a content is not checked."""
    names, contents, rest = [], {}, ""
    for parameter in filter(None, parameters.split(", ")):
        name, _, content = parameter.partition(": ")
        if name.startswith("*"):
            name = rest = name[1:]
        else:
            names.append(name)
        if content:
            contents[name] = content
    return Holds(tuple(names), contents, rest, answer)


VERBS: Mapping[str, Holds] = {
    "forward": _holds("step_id, z: smashed", "smashed"),
    "backward": _holds("step_id, g: gradients", "gradients"),
    "loss_gradient": _holds("step_id, z: smashed, y: labels", "loss+gradients"),
    "shared_step": _holds("step_id, turn: count, z: smashed, y: labels", "loss+gradients"),
    "joint_step": _holds("step_id, present: names, z: smashed, y: labels", "loss+gradients"),
    "train_heads": _holds("step_id, z: smashed, y: labels", "loss"),
    "add_gradients": _holds("step_id, before: gradients?", "gradients"),
    "linearise": _holds("step_id, present: names, z: smashed, y: labels", "gradients"),
    "products": _holds("step_id, u: smashed, w: smashed", "gradients+gradients"),
    "note_curvature": _holds("step_id, own: number, cross: number"),
    "curvature": _holds(answer="numbers"),
    "take_offer": _holds("step_id, index: count, offer: vector+number"),
    "run_round": _holds("program, team, context, state: weights?", "report"),
    "train": _holds("recipe, program, team, context, state: weights", "report"),
    "submit": _holds("context, owner, *states: weights"),
    "submit_measured": _holds("context, owner, state: weights, affinity: numbers"),
    "affinities": _holds("context", "numbers"),
    "current": _holds(answer="weights"),
    "mean": _holds("context", "weights"),
    "replica_state": _holds("context, owner", "weights"),
    "model_of": _holds("tasks", "weights"),
    "weights": _holds(answer="weights"),
    "load_weights": _holds("state: weights"),
    "inherit": _holds("state: weights"),
    "state_dict": _holds(answer="state"),
    "load_state_dict": _holds("state: state"),
    "follow": _holds("state: state"),
    "evaluate": _holds("*states: weights", "evaluation"),
    "local_gradient": _holds("*states: weights", "vector"),
    "mean_gradient": _holds(answer="vector"),
    "num_steps": _holds(answer="count"),
    "closed": _holds("context", "names"),
}
"""The built-in verbs whose values are checked, with their parameters in the order of the methods."""


def of_own(crossing: Crossing) -> Holds:
    """Return what a verb carries whose kinds a party class declares itself."""
    rest = "others"
    kinds = dict((*crossing.parameters, *crossing.keywords, (rest, crossing.rest)))
    contents = {name: "tensors" for name, kind in kinds.items() if kind != "other"}
    answer = "" if crossing.answer == "other" else "tensors"
    return Holds(tuple(name for name, _ in crossing.parameters), contents, rest, answer)
