"""MiniBatch-SFL: the smashed data of all owners form one giant mini-batch for the server.

Huang, Tian, Tang, "When MiniBatch SGD Meets SplitFed Learning: Convergence Analysis and Performance Evaluation"
(2023, arXiv 2308.11953). Per step, all owners in lock-step send (z_n, y_n); the server takes one step on the mean loss
over all rows and sends each owner the gradient of that owner's own mean loss, both at the old weights; the owners
step on their own; every round (or every ``sync_every`` steps) the owners' parts are averaged by data size.

The objective is the mean loss over all samples, F = sum_n p_n F_n with p_n = |D_n| / sum |D|. Owners that go through
their samples more often than others in a round would weigh more in the server's mean. So a row of owner n counts there
with the weight |D_n| / R_n, where R_n is the number of rows that the owner sends in the round: every sample of every
owner then counts the same. Where all owners visit their samples equally often, this is the plain mean over all rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from raysplit.actors.data_owner import DataOwner, Program
from raysplit.actors.parts.joint_step import ClientGradScale, GradSource, JointRule, ServerForward
from raysplit.actors.records import RoundContext
from raysplit.actors.server_shard import ShardHandle
from raysplit.algorithms.setting import Cut, Options, Team
from raysplit.algorithms.splitfed import SharedServerOptions, SplitFedV1
from raysplit.algorithms.unused import JOINT_STEPS
from raysplit.cluster.contract import PartySpec, Promise
from raysplit.data.batches import LocalTraining
from raysplit.models.spec import ModelSpec


async def minibatch_round(owner: DataOwner, team: Team, context: RoundContext, *, sync_every: int | None) -> None:
    for step_id, batch in owner.batches(context):
        z = await owner.first.forward(step_id, batch.x)
        loss, g = await team.server.joint_step(step_id, context.cohort, z, batch.y)
        await owner.first_backward(step_id, g)
        owner.note(step_id, loss, len(batch))
        if sync_every and (step_id.step + 1) % sync_every == 0:
            await team.aggregator.submit(context, owner.name, owner.weights(), meeting=step_id.step + 1)
            owner.load_weights(await team.aggregator.mean(context, meeting=step_id.step + 1))
    await team.aggregator.submit(context, owner.name, owner.weights())


class MiniBatchOptions(SharedServerOptions):
    """Options of the joint server step, and of owners with unequal amounts of data."""

    server_forward: ServerForward = "concat"
    """Forward pass of the server's part: ``concat`` is one pass over the rows of all owners; ``grad_avg`` is one pass
    per owner, with gradients averaged. They differ only if the part has batch norm."""
    grad_source: GradSource = "joint"
    """Source of the gradients that owners receive: the server's ``joint`` step, or ``per_client``, a second pass per
    owner with batch statistics of its own rows."""
    client_grad_scale: ClientGradScale = "per_client_mean"
    """Scale of the gradients that owners receive: ``per_client_mean`` is the gradient of the owner's own mean loss;
    ``giant`` is that of the loss over all rows, smaller by the owner's share of the rows."""
    sync_every: int | None = Field(default=None, ge=1)
    """Steps between averages of the owners' parts within a round, beside that at its end; None averages at the end
    only."""
    unequal: Literal["cycle", "proportional"] = "cycle"
    """Owners with fewer samples: ``cycle`` goes through their samples again, and their rows weigh less;
    ``proportional`` makes batches in proportion to the owners' data sizes, the largest owner having the batch size."""

    @model_validator(mode="after")
    def _giant_scale_needs_one_server(self) -> MiniBatchOptions:
        if self.num_servers > 1 and self.client_grad_scale == "giant":
            raise ValueError(
                f"client_grad_scale giant needs the rows of all owners at one server, and num_servers is "
                f"{self.num_servers}; set num_servers to 1, or use per_client_mean with a smaller learning rate"
            )
        return self


class MiniBatchSFL(SplitFedV1):
    """MiniBatch-SFL: one joint server step on the batches of all owners, which run in lockstep."""

    name = "minibatch_sfl"
    title = "MiniBatch-SFL"
    options_type: ClassVar[type[Options]] = MiniBatchOptions
    lockstep = True
    unused: ClassVar[Mapping[str, str]] = JOINT_STEPS
    clips_models = False
    sums_server_steps = False
    judges_whole_models = False  # an owner contributes its own part alone

    def parties(self) -> list[PartySpec]:
        guarded = self.setting.privacy.weights is not None  # owners clip the gradients of samples, which have no shares
        rule = JointRule(
            server_forward=self.options.server_forward,
            grad_source=self.options.grad_source,
            client_grad_scale="per_client_mean" if guarded else self.options.client_grad_scale,
        )
        restart = self.setting.restart_server_optimizer
        servers = self.server_parties(self.recipe(1), joint=rule, restart_optimizer=restart)
        return [*self.owner_parties(self.recipe(0)), *servers, self.aggregator_party(0)]

    def seen_alone(self, owner: str) -> tuple[ModelSpec, tuple[Cut, ...]]:
        options: MiniBatchOptions = self.options
        joined = options.server_forward == "concat" and options.grad_source == "joint" and self.num_servers == 1
        meet = joined and min(self.setting.cohort_size or 2, len(self.setting.owners)) > 1
        return self.setting.spec, self.placed_cuts if meet else ()

    def context(self, round: int, cohort: Sequence[str], *, lr_scale: float = 1.0, attempt: int = 0) -> RoundContext:
        """Build the instruction of a round, with the weights of rows by which every sample counts the same."""
        context = super().context(round, cohort, lr_scale=lr_scale, attempt=attempt)
        sizes = {name: self.setting.num_samples(name) for name in cohort}
        visited = {name: self.local_training(name).num_rows(sizes[name], context.steps(name)) for name in cohort}
        weights = tuple(sizes[name] / visited[name] for name in cohort)
        return context if len(set(weights)) == 1 else replace(context, row_weights=weights)

    def program(self) -> Program:
        return partial(minibatch_round, sync_every=self.options.sync_every)

    def brought_up_to_date(self, server: ShardHandle, latest: ShardHandle) -> Promise[None]:
        """Copy the shared part and its optimizer to a server; all servers hold the same."""
        return server.follow(latest.state_dict())

    def local_training(self, owner: str) -> LocalTraining:
        training = self.setting.training
        if self.options.unequal == "cycle":
            return training
        largest = max(self.setting.num_samples(name) for name in self.setting.owners)
        share = self.setting.num_samples(owner) / largest
        return replace(training, batch_size=max(1, round(training.batch_size * share)))
