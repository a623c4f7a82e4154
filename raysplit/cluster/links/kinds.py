"""What kind of value each verb carries: smashed data, gradients, weights, labels, or something else.

One table says it by verb, so that the programs of algorithms need not. A codec, and whatever else works on a link, is
configured by kind. What no table names is ``other`` and goes as it is: measurements of curvature and affinity, the
gradients that servers bring each other, snapshots, evaluation.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from raysplit.registry import one_of

Kind = Literal["smashed", "gradients", "weights", "labels", "other"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_CALL_NAMES = ("step_id", "context")  # parameters that say which owner's round and step a call belongs to
Verb = TypeVar("Verb", bound=Callable[..., Any])


class Crossing(NamedTuple):
    """The kinds of a verb's arguments and of its answer.

    Attributes:
        parameters: names and kinds in the order of the verb's parameters.
        rest: the kind of the positional arguments after them.
        keywords: names and kinds of the parameters that are given by name alone.
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
        """The `StepId` or `RoundContext` of a call with these arguments; None where it has none."""
        for (name, _), value in zip(self.parameters, args, strict=False):
            if name in _CALL_NAMES:
                return value
        return next((kwargs[name] for name in _CALL_NAMES if name in kwargs), None)

    @property
    def kinds(self) -> set[Kind]:
        """All kinds that this verb carries."""
        return {kind for _, kind in (*self.parameters, *self.keywords)} | {self.rest, self.answer}


def _crossing(parameters: str = "", answer: Kind = "other") -> Crossing:
    """From ``"step_id, z: smashed, *more: weights"``; a parameter without a kind is ``other``."""
    found: list[tuple[str, Any]] = []
    rest: Any = "other"
    for parameter in filter(None, parameters.split(", ")):
        name, _, kind = parameter.partition(": ")
        if name.startswith("*"):
            rest = kind
        else:
            found.append((name, kind or "other"))
    return Crossing(tuple(found), rest, answer)


VERBS: Mapping[str, Crossing] = {
    "forward": _crossing("step_id, z: smashed", answer="smashed"),
    "backward": _crossing("step_id, g: gradients", answer="gradients"),
    "loss_gradient": _crossing("step_id, z: smashed, y: labels", answer="gradients"),
    "shared_step": _crossing("step_id, turn, z: smashed, y: labels", answer="gradients"),
    "joint_step": _crossing("step_id, present, z: smashed, y: labels", answer="gradients"),
    "train_heads": _crossing("step_id, z: smashed, y: labels"),
    "add_gradients": _crossing("step_id, before: gradients", answer="gradients"),
    "run_round": _crossing("program, team, context, state: weights"),
    "submit": _crossing("context, owner, *states: weights"),
    "current": _crossing(answer="weights"),
    "mean": _crossing("context", answer="weights"),
    "replica_state": _crossing("context, owner", answer="weights"),
}
"""By verb. Its parameters stand in the order of the verb's own."""


def carries(*, answer: Kind = "other", **arguments: Kind) -> Callable[[Verb], Verb]:
    """Declare what a verb of one's own party carries; without it, nothing of it is coded.

    Args:
        answer: the kind of all tensors in its answer.
        arguments: kinds by the name of the parameter.

    Example::

        @carries(z="smashed", y="labels", answer="gradients")
        async def contrast(self, step_id: StepId, z: Tensor, y: Tensor) -> Tensor: ...

    Raises ``ValueError`` for a parameter that the verb does not have and for an unknown kind.
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
    """The verbs of a party's class that `carries` was said of."""
    found = {name: getattr(getattr(build, name, None), "crossing", None) for name in dir(build) if name[0] != "_"}
    return {name: crossing for name, crossing in found.items() if isinstance(crossing, Crossing)}
