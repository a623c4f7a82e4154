"""The verbs that each role answers, as types of handles, so that mypy finds a misspelled one before the run.

A handle forwards any call. These protocols list the calls that a party answers: a method that returns ``T`` at the
party returns a ``Promise[T]`` here, and an argument of type ``Given[T]`` may be a value or a promise of one, which then
travels from party to party without passing through the caller. `raysplit.algorithms.setting.Team` and the accessors of
`raysplit.algorithms.base.Algorithm` return handles with these types. A party class with further verbs has a protocol
beside it that adds them. A test compares every protocol with the methods of its class.

Everywhere, ``z`` are smashed data [B, ...] and ``g`` the gradient of the loss with respect to them, with the same shape
(tuples of tensors if several cross the cut); weights are mappings from names to tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from raysplit.actors.data_owner import Program
from raysplit.actors.evaluation import Evaluation
from raysplit.actors.parts.at_cuts import AtCuts
from raysplit.actors.parts.gradient_record import ReceivedGradient
from raysplit.actors.parts.leaves import Tensors
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import OwnerReport, RoundContext, StepId
from raysplit.cluster.contract import Given, Promise
from raysplit.models.adapters.gap import Terms
from raysplit.models.spec import ModelSpec

Weights = Mapping[str, Tensor]
"""Weights and buffers of a model or of a part, by name."""


class PartyHandle(Protocol):
    """The handle of a party with state."""

    @property
    def name(self) -> str:
        """The name of the party."""

    def state_dict(self) -> Promise[dict[str, Any]]:
        """Return the state from which the party resumes after a round."""

    def load_state_dict(self, state: Given[Mapping[str, Any]]) -> Promise[None]:
        """Abort what is under way, and restore a `state_dict`; an owner's empty one leaves its weights as they are."""


class OwnerHandle(PartyHandle, Protocol):
    """The handle of a `DataOwner`."""

    def run_round(
        self, program: Program, team: Any, context: RoundContext, state: Given[Weights] | None = None
    ) -> Promise[OwnerReport]:
        """Run a program at the owner.

        Args:
            program: a module-level coroutine ``(owner, team, context)``, or a `functools.partial` of one.
            team: the handles that it may call.
            context: the instruction of the round.
            state: weights to load first; None starts from the owner's present weights.

        Raises:
            NonFiniteLoss: if the loss of a step is NaN or infinite.
            StaleCall: if the round is aborted meanwhile.
        """

    def weights(self) -> Promise[dict[str, Tensor]]:
        """Return a copy of the weights and buffers of all parts that the owner holds."""

    def load_weights(self, state: Given[Weights]) -> Promise[None]:
        """Load the weights and buffers of the owner's parts; other entries are ignored."""

    def set_learning_rate(self, rate: float) -> Promise[None]:
        """Set the learning rate of all parts, which the schedule still multiplies."""

    def recut(self, recipes: tuple[PartRecipe, ...]) -> Promise[None]:
        """Abort a round that is under way, and replace the parts by others with their initial weights."""

    def progress(self) -> Promise[int | None]:
        """Return the number of steps done in the present round; None between rounds."""

    def largest_gradient(self) -> Promise[ReceivedGradient | None]:
        """Return the one gradient of the round that was out of all proportion, if another party sent one."""

    def evaluate(self, *states: Given[Weights], at_cuts: AtCuts | None = None) -> Promise[Evaluation]:
        """Evaluate the model whose weights are the union of ``states`` on the owner's own test samples.

        Raises:
            ValueError: if the owner has no test samples.
        """

    def num_targets(self, context: RoundContext) -> Promise[int]:
        """Return the number of counted targets of a round's mini-batches, for `Setting.weight_by`."""

    def local_gradient(self, *states: Given[Weights]) -> Promise[Tensor]:
        """Return the gradient [dim] of the mean loss over the whole shard at these weights, for the first part."""

    def mean_gradient(self) -> Promise[Tensor]:
        """Return the mean [dim] of the gradients of the last round with ``RoundContext.record_gradients``."""


class NodeHandle(PartyHandle, Protocol):
    """The handle of a `ComputeNode`.

    Calls of a step raise `StaleCall` if their round or attempt is not the one of the last `begin`, or if the owner has
    another batch in flight at this node.
    """

    def begin(self, context: RoundContext) -> Promise[None]:
        """Begin a round, or its next attempt; calls of any other raise `StaleCall` from now on."""

    def forward(self, step_id: StepId, z: Given[Tensors]) -> Promise[Tensors]:
        """Run the owner's replica forward on ``z``, and return its output."""

    def backward(self, step_id: StepId, g: Given[Tensors]) -> Promise[Tensors]:
        """Run the owner's replica backward with the gradient of its output, and return the gradient of its input.

        The replica is updated after the gradient has been returned.
        """

    def loss_gradient(self, step_id: StepId, z: Given[Tensors], y: Any) -> Promise[tuple[float, Tensors]]:
        """Train the owner's replica of the last part for one step.

        Args:
            step_id: the owner's step.
            z: smashed data [B, ...].
            y: the labels of the same rows, a tensor [B, ...] or a mapping of tensors by task.

        Returns:
            The mean loss of the batch, and the gradient of ``z`` at the weights before the step.

        Raises:
            NonFiniteLoss: if the loss is NaN or infinite.
        """

    def average(self, context: RoundContext, owner: str) -> Promise[None]:
        """Wait until all owners of the cohort have called this, and average their replicas in place."""

    def shared_step(self, step_id: StepId, turn: int, z: Given[Tensors], y: Any) -> Promise[tuple[float, Tensors]]:
        """Train the shared last part for one step on the owner's batch, after all earlier turns of the round.

        ``turn`` counts from 0 in a round; for the other arguments and the result see `loss_gradient`.
        """

    def joint_step(
        self, step_id: StepId, present: tuple[str, ...], z: Given[Tensors], y: Any
    ) -> Promise[tuple[float, Tensors]]:
        """Train the shared last part for one step on the batches of all ``present`` owners, which wait for one another.

        Returns this owner's mean loss, and the gradient of its ``z`` at the weights before the step.
        """

    def clip(self, step_id: StepId, norms: Mapping[int, Tensor]) -> Promise[Tensor]:
        """Complete the step of the last part, and return the factor [] on all gradients of the step.

        Args:
            step_id: the owner's step.
            norms: the norms [T] of the gradients of all other parts, by number of the part.

        Raises:
            NonFiniteNorm: if the norm of the model is NaN or infinite.
        """

    def norms(self, step_id: StepId) -> Promise[Tensor]:
        """Return the norms [T] of the gradients of the owner's replica, after its backward pass."""

    def update(self, step_id: StepId, factor: Tensor) -> Promise[None]:
        """Apply the gradients of the owner's replica, multiplied by a factor []."""

    def lora_gap(self) -> Promise[Terms | None]:
        """Return what the latest average lost by averaging the factors of adapters; None without adapters."""

    def absent(self) -> Promise[list[str]]:
        """Return the names of the owners for which others wait at this node."""

    def num_steps(self) -> Promise[int]:
        """Return the optimizer steps of the last part in this round, of all replicas together."""

    def set_learning_rate(self, rate: float) -> Promise[None]:
        """Set the learning rate, which the schedule still multiplies."""

    def predict(self, z: Given[Tensors], owner: str = ...) -> Promise[Tensors]:
        """Run the shared part, or an owner's replica, forward in eval mode."""

    def weights(self) -> Promise[dict[str, Tensor]]:
        """Return the weights of the shared part, or of the last average of the replicas."""

    def load_weights(self, state: Given[Weights]) -> Promise[None]:
        """Set the weights of the shared part, or of all present and future replicas."""

    def recut(self, recipe: PartRecipe) -> Promise[None]:
        """Abort what is under way, and replace the part by another with its initial weights."""


class AggregatorHandle(PartyHandle, Protocol):
    """The handle of an `Aggregator`."""

    def begin(self, context: RoundContext) -> Promise[None]:
        """Begin a round; submissions to any other raise `StaleCall` from now on."""

    def submit(self, context: RoundContext, owner: str, *states: Given[Weights], meeting: int = 0) -> Promise[None]:
        """Submit an owner's weights for an average of the round.

        Args:
            context: the instruction of the present round.
            owner: the name of an owner of its cohort.
            states: its weights by name; several pieces are joined.
            meeting: the number of the average, for rounds with several.

        Raises:
            StaleCall: for another round, an owner outside the cohort, or a second submission.
            UpdateRefused: for weights that the run's rules refuse.
        """

    def mean(self, context: RoundContext, *, meeting: int = 0) -> Promise[dict[str, Tensor]]:
        """Wait until the whole cohort has submitted, and return the average."""

    def current(self) -> Promise[dict[str, Tensor]]:
        """Return the latest average, or the initial weights before the first."""

    def load_weights(self, state: Given[Weights]) -> Promise[None]:
        """Set the weights that `current` returns until the next average."""

    def lora_gap(self) -> Promise[Terms | None]:
        """Return what the latest average lost by averaging the factors of adapters; None without adapters."""

    def absent(self) -> Promise[list[str]]:
        """Return the names of the owners for which others wait here."""


class EvaluatorHandle(Protocol):
    """The handle of an `Evaluator`."""

    @property
    def name(self) -> str:
        """The name of the party."""

    def evaluate(
        self, *states: Given[Weights], spec: ModelSpec | None = None, at_cuts: AtCuts | None = None
    ) -> Promise[Evaluation]:
        """Evaluate the model whose weights are the union of ``states``: the run's, or that of ``spec`` if given."""


class DomainEvaluatorHandle(Protocol):
    """The handle of a `DomainEvaluator`."""

    def evaluate(
        self,
        *states: Given[Weights],
        spec: ModelSpec | None = None,
        at_cuts: AtCuts | None = None,
        owners: Sequence[str] | None = None,
    ) -> Promise[Evaluation]:
        """Evaluate the model for these owners of the party, each on its own samples."""
