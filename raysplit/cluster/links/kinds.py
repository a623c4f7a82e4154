"""The kinds of values that verbs carry: smashed data, gradients, weights, labels, or other values.

One table lists them by verb, so that algorithms do not have to. Codecs and other processing on a link are configured by
kind. Values that the table does not name are ``"other"`` and are sent unchanged: measurements of curvature and
affinity, gradients between servers, snapshots, evaluation.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from raysplit.registry import one_of

Kind = Literal["smashed", "gradients", "weights", "labels", "other"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_CALL_NAMES = ("step_id", "context")  # parameters that hold the owner's round and step of a call
Verb = TypeVar("Verb", bound=Callable[..., Any])


class Crossing(NamedTuple):
    """The kinds of a verb's arguments and of its answer.

    Attributes:
        parameters: names and kinds of the positional parameters, in their order.
        rest: kind of the positional arguments after them.
        answer: kind of all tensors in the answer.
        keywords: names and kinds of the keyword-only parameters.
    """

    parameters: tuple[tuple[str, Kind], ...] = ()
    rest: Kind = "other"
    answer: Kind = "other"
    keywords: tuple[tuple[str, Kind], ...] = ()

    def positional(self, position: int) -> Kind:
        return self.parameters[position][1] if position < len(self.parameters) else self.rest

    def named(self, name: str) -> Kind:
        return dict((*self.parameters, *self.keywords)).get(name, "other")

    def step_of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return the `StepId` or `RoundContext` among the arguments of a call, or None."""
        for (name, _), value in zip(self.parameters, args, strict=False):
            if name in _CALL_NAMES:
                return value
        return next((kwargs[name] for name in _CALL_NAMES if name in kwargs), None)

    @property
    def kinds(self) -> set[Kind]:
        """The kinds of all arguments and of the answer."""
        return {kind for _, kind in (*self.parameters, *self.keywords)} | {self.rest, self.answer}


def _crossing(parameters: str = "", answer: Kind = "other") -> Crossing:
    """Parse ``"step_id, z: smashed, *more: weights"``; a parameter without a kind is ``"other"``."""
    found: list[tuple[str, Any]] = []
    rest: Any = "other"
    for parameter in filter(None, parameters.split(", ")):
        name, _, kind = parameter.partition(": ")
        if name.startswith("*"):
            rest = kind
        else:
            found.append((name, kind or "other"))
    return Crossing(tuple(found), rest, answer)


BEGINS = ("run_round", "begin")
"""The verbs with which the round of an owner, a node or an aggregator begins."""
SUBMIT = "submit"
"""The verb with which an owner's weights are taken."""
SUBMIT_SUM = "submit_sum"
"""The verb with which the sum of several owners' weights is taken."""
TOGETHER = frozenset({SUBMIT, "joint_step"})
"""The verbs that owners of one place call at about the same time, and that are answered at about the same time."""

UNDECLARED = Crossing()
"""The kinds of values of a verb that does not say them: none."""

VERBS: Mapping[str, Crossing] = {
    "forward": _crossing("step_id, z: smashed", answer="smashed"),
    "backward": _crossing("step_id, g: gradients", answer="gradients"),
    "loss_gradient": _crossing("step_id, z: smashed, y: labels", answer="gradients"),
    "shared_step": _crossing("step_id, turn, z: smashed, y: labels", answer="gradients"),
    "joint_step": _crossing("step_id, present, z: smashed, y: labels", answer="gradients"),
    "clip": _crossing("step_id, norms"),
    "norms": _crossing("step_id"),
    "update": _crossing("step_id, factor"),
    "train_heads": _crossing("step_id, z: smashed, y: labels"),
    "add_gradients": _crossing("step_id, before: gradients", answer="gradients"),
    "begin": _crossing("context"),
    "run_round": _crossing("program, team, context, state: weights"),
    "submit": _crossing("context, owner, *states: weights"),
    "current": _crossing(answer="weights"),
    "mean": _crossing("context", answer="weights"),
    "replica_state": _crossing("context, owner", answer="weights"),
}
"""The built-in verbs; their parameters are listed in the order of the methods."""


def carries(*, answer: Kind = "other", **arguments: Kind) -> Callable[[Verb], Verb]:
    """Declare the kinds of values that a verb of a new party class carries; undeclared verbs are never coded.

    Args:
        answer: kind of all tensors in the answer.
        arguments: kinds of the arguments, by the name of the parameter.

    Raises:
        ValueError: for an unknown kind, or a parameter that the verb does not have.

    Example::

        @carries(z="smashed", y="labels", answer="gradients")
        async def contrast(self, step_id: StepId, z: Tensor, y: Tensor) -> Tensor: ...
    """
    for kind in (answer, *arguments.values()):
        one_of("kind", kind, KINDS)

    def kinds_of(names: Sequence[str]) -> tuple[tuple[str, Kind], ...]:
        return tuple((name, arguments.get(name, "other")) for name in names)

    def declared(verb: Verb) -> Verb:
        parameters = list(inspect.signature(verb).parameters.values())[1:]  # without self
        for name in arguments:
            one_of(f"parameter of {verb.__name__}", name, [p.name for p in parameters])
        several = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
        verb.crossing = Crossing(  # type: ignore[attr-defined]
            parameters=kinds_of([p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]),
            rest=arguments.get(several[0], "other") if several else "other",
            answer=answer,
            keywords=kinds_of([p.name for p in parameters if p.kind is p.KEYWORD_ONLY]),
        )
        return verb

    return declared


@lru_cache(maxsize=256)
def declared(build: Callable[..., Any]) -> Mapping[str, Crossing]:
    """Return the verbs of a party's class that are decorated with `carries`."""
    found = {name: getattr(getattr(build, name, None), "crossing", None) for name in dir(build) if name[0] != "_"}
    return {name: crossing for name, crossing in found.items() if isinstance(crossing, Crossing)}
