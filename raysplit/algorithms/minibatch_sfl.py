"""MiniBatch-SFL: the smashed data of all owners are one giant mini-batch for the server.

Huang, Tian, Tang, "When MiniBatch SGD Meets SplitFed Learning: Convergence Analysis and Performance Evaluation"
(2023, arXiv 2308.11953). Per step, all owners in lock-step send (z_n, y_n); the server takes one step on the mean loss
over all rows and sends each owner the gradient of that owner's own mean loss, both at the old weights; the owners
step on their own; every round (or every ``sync_every`` steps) the owners' parts are averaged by data size.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from raysplit.actors.data_owner import DataOwner, LocalTraining, Program
from raysplit.actors.parts.joint_step import ClientGradScale, GradSource, JointRule, ServerForward
from raysplit.actors.records import RoundContext
from raysplit.actors.server_shard import ShardHandle
from raysplit.algorithms.setting import Options, Team
from raysplit.algorithms.splitfed import SharedServerOptions, SplitFedV1
from raysplit.cluster.contract import PartySpec, Promise


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
    """The switches of the joint step, and how owners of unequal size keep step."""

    server_forward: ServerForward = "concat"
    """See `JointRule`."""
    grad_source: GradSource = "joint"
    """See `JointRule`."""
    client_grad_scale: ClientGradScale = "per_client_mean"
    """See `JointRule`."""
    sync_every: int | None = Field(default=None, ge=1)
    """Average the owners' parts every so many steps as well as at the end of the round."""
    unequal: Literal["cycle", "proportional"] = "cycle"
    """Owners with fewer samples ``cycle`` through them again, or all take batches in proportion to their size
    (``proportional``), the largest owner's being the batch size."""

    @model_validator(mode="after")
    def _giant_scale_needs_one_server(self) -> MiniBatchOptions:
        if self.num_servers > 1 and self.client_grad_scale == "giant":
            raise ValueError(
                f"client_grad_scale giant needs the rows of all owners at one server and num_servers is "
                f"{self.num_servers}; take one server, or per_client_mean with a smaller learning rate"
            )
        return self


class MiniBatchSFL(SplitFedV1):
    name = "minibatch_sfl"
    title = "MiniBatch-SFL"
    options_type: ClassVar[type[Options]] = MiniBatchOptions
    lockstep = True
    sums_server_steps = False

    def parties(self) -> list[PartySpec]:
        rule = JointRule(
            server_forward=self.options.server_forward,
            grad_source=self.options.grad_source,
            client_grad_scale=self.options.client_grad_scale,
        )
        restart = self.setting.restart_server_optimizer
        servers = self.server_parties(self.recipe(1), joint=rule, restart_optimizer=restart)
        return [*self.owner_parties(self.recipe(0)), *servers, self.aggregator_party(0)]

    def program(self) -> Program:
        return partial(minibatch_round, sync_every=self.options.sync_every)

    def brought_up_to_date(self, server: ShardHandle, latest: ShardHandle) -> Promise[None]:
        """A server takes over the shared part with its optimiser."""
        return server.follow(latest.state_dict())

    def local_training(self, owner: str) -> LocalTraining:
        training = self.setting.training
        if self.options.unequal == "cycle":
            return training
        largest = max(self.setting.num_samples(name) for name in self.setting.owners)
        share = self.setting.num_samples(owner) / largest
        return replace(training, batch_size=max(1, round(training.batch_size * share)))
