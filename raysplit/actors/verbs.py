"""What parties can be asked: a type for the far end of each role, so that a misspelt verb is an error before the run.

A handle calls whatever verb it is given, and says nothing about names. These protocols name the verbs of a party as its
handle has them: a verb that returns ``T`` at the party gives a ``Promise[T]`` here, and an argument may be promised.
Annotate a handle with the protocol of its role (`raysplit.algorithms.setting.Team` and the accessors of
`raysplit.algorithms.base.Algorithm` do), and mypy and editors know what it can be asked. A class with further verbs has
a protocol beside it that adds them. A test holds every protocol to the methods of its class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from raysplit.actors.data_owner import Program
from raysplit.actors.evaluator import Evaluation
from raysplit.actors.parts.part import Tensors
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import OwnerReport, RoundContext, StepId
from raysplit.cluster.contract import Given, Promise
from raysplit.models.spec import ModelSpec

Weights = Mapping[str, Tensor]
"""Weights and buffers of (a part of) a model by name."""


class PartyHandle(Protocol):
    """What every party can be asked that outlives a round."""

    @property
    def name(self) -> str: ...

    def state_dict(self) -> Promise[dict[str, Any]]: ...

    def load_state_dict(self, state: Given[Mapping[str, Any]]) -> Promise[None]: ...


class OwnerHandle(PartyHandle, Protocol):
    """A `DataOwner` from afar."""

    def run_round(
        self, program: Program, team: Any, context: RoundContext, state: Given[Weights] | None = None
    ) -> Promise[OwnerReport]: ...

    def weights(self) -> Promise[dict[str, Tensor]]: ...

    def load_weights(self, state: Given[Weights]) -> Promise[None]: ...

    def set_learning_rate(self, rate: float) -> Promise[None]: ...

    def recut(self, recipes: tuple[PartRecipe, ...]) -> Promise[None]: ...

    def progress(self) -> Promise[int | None]: ...

    def evaluate(self, *states: Given[Weights]) -> Promise[Evaluation]: ...

    def local_gradient(self, *states: Given[Weights]) -> Promise[Tensor]: ...

    def mean_gradient(self) -> Promise[Tensor]: ...


class NodeHandle(PartyHandle, Protocol):
    """A `ComputeNode` from afar."""

    def begin(self, context: RoundContext) -> Promise[None]: ...

    def forward(self, step_id: StepId, z: Given[Tensors]) -> Promise[Tensors]: ...

    def backward(self, step_id: StepId, g: Given[Tensors]) -> Promise[Tensors]: ...

    def loss_gradient(self, step_id: StepId, z: Given[Tensors], y: Any) -> Promise[tuple[float, Tensors]]: ...

    def average(self, context: RoundContext, owner: str) -> Promise[None]: ...

    def shared_step(self, step_id: StepId, turn: int, z: Given[Tensors], y: Any) -> Promise[tuple[float, Tensors]]: ...

    def joint_step(
        self, step_id: StepId, present: tuple[str, ...], z: Given[Tensors], y: Any
    ) -> Promise[tuple[float, Tensors]]: ...

    def absent(self) -> Promise[list[str]]: ...

    def num_steps(self) -> Promise[int]: ...

    def set_learning_rate(self, rate: float) -> Promise[None]: ...

    def predict(self, z: Given[Tensors], owner: str = ...) -> Promise[Tensors]: ...

    def weights(self) -> Promise[dict[str, Tensor]]: ...

    def load_weights(self, state: Given[Weights]) -> Promise[None]: ...

    def recut(self, recipe: PartRecipe) -> Promise[None]: ...


class AggregatorHandle(PartyHandle, Protocol):
    """An `Aggregator` from afar."""

    def begin(self, context: RoundContext) -> Promise[None]: ...

    def submit(self, context: RoundContext, owner: str, *states: Given[Weights], meeting: int = 0) -> Promise[None]: ...

    def mean(self, context: RoundContext, *, meeting: int = 0) -> Promise[dict[str, Tensor]]: ...

    def current(self) -> Promise[dict[str, Tensor]]: ...

    def load_weights(self, state: Given[Weights]) -> Promise[None]: ...

    def absent(self) -> Promise[list[str]]: ...


class EvaluatorHandle(Protocol):
    """An `Evaluator` from afar."""

    @property
    def name(self) -> str: ...

    def evaluate(self, *states: Given[Weights], spec: ModelSpec | None = None) -> Promise[Evaluation]: ...
