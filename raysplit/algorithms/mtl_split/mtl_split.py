"""MTL-Split: one backbone at the data owner, a head for every task on compute nodes.

Capogrosso, Fraccaroli, Chakraborty, Fummi, Cristani, "MTL-Split: Multi-Task Learning for Edge Devices using Split
Computing" (2024, arXiv 2407.05982). The loss is the sum of the tasks' cross-entropies, AdamW decays weights by a
hundredth of the learning rate, a round is an epoch, and the kept model is that of the lowest joint loss on validation
images. In the paper, training runs on one machine and only deployment is split. Here training is split too, with the
same bits: Z_b goes to every node, and the gradients come back summed in the order of the tasks. With one task it is the
single-task network (STL) that the paper compares with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from raysplit.actors.data_owner import DataOwner, Program
from raysplit.actors.evaluation import Evaluation
from raysplit.actors.parts.leaves import Tensors
from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.actors.records import RoundContext, StepId
from raysplit.actors.verbs import EvaluatorHandle, Weights
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.mtl_split.heads_node import HeadsHandle, HeadsNode
from raysplit.algorithms.setting import Cut, Options, RoundReport, Setting, Team
from raysplit.algorithms.unused import NO_AVERAGE, OWN_STATISTICS, SEVERAL_LABELS, RunOutline
from raysplit.cluster.contract import PartySpec, Promise, gather
from raysplit.models.classifier.spec import ClassifierSpec

DECAY_PER_RATE = 0.01
Groups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class HeadsTeam(Team):
    """A team whose nodes hold heads."""

    nodes: tuple[HeadsHandle, ...] = ()


async def mtl_split_round(owner: DataOwner, team: HeadsTeam, context: RoundContext, *, groups: Groups) -> None:
    for step_id, batch in owner.batches(context):
        z = await owner.first.forward(step_id, batch.x)
        loss = await train_heads(team, groups, step_id, z, batch.y)
        g: Promise[Tensor] | None = None
        for node in team.nodes:
            g = node.add_gradients(step_id.untold, g)  # a promise: the sum travels from node to node
        assert g is not None
        await owner.first_backward(step_id, await g)
        owner.note(step_id, loss, len(batch))


async def heads_only_round(owner: DataOwner, team: HeadsTeam, context: RoundContext, *, groups: Groups) -> None:
    """Train the heads on a frozen backbone: no gradient returns to the owner."""
    for step_id, batch in owner.batches(context):
        z = await owner.first.forward(step_id, batch.x)
        owner.note(step_id, await train_heads(team, groups, step_id, z, batch.y), len(batch))


async def train_heads(team: HeadsTeam, groups: Groups, step_id: StepId, z: Tensors, y: Mapping[str, Tensor]) -> float:
    """Train all heads for one step and return the joint loss; a node receives the labels of its own tasks only."""
    nodes = zip(team.nodes, groups, strict=True)
    losses = [node.train_heads(step_id.told_of(group), z, {name: y[name] for name in group}) for node, group in nodes]
    return float(sum(await gather(*losses)))


def dealt(tasks: Sequence[str], num_nodes: int) -> Groups:
    """Distribute the tasks over the nodes in order, as evenly as possible; the first nodes get one more."""
    small, extra = divmod(len(tasks), num_nodes)
    ends = [small * (k + 1) + min(k + 1, extra) for k in range(num_nodes)]
    return tuple(tuple(tasks[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True))


class MTLSplitOptions(Options):
    """Options of MTL-Split."""

    num_nodes: int | None = Field(default=None, ge=1)
    """Number of compute nodes that share the heads; None gives every head a node of its own."""


class MTLSplit(Algorithm):
    """MTL-Split: a backbone at one data owner, and a head for every task on compute nodes."""

    name = "mtl_split"
    can_be_simulated = False
    title = "MTL-Split"
    round_is_report = True
    reports_validation = True
    unused = {**NO_AVERAGE, **OWN_STATISTICS, **SEVERAL_LABELS}
    options_type: ClassVar[type[Options]] = MTLSplitOptions

    @classmethod
    def check(cls, options: Any, outline: RunOutline) -> None:
        super().check(options, outline)
        if len(outline.owners) != 1:
            raise ValueError(
                f"MTL-Split has one backbone at one data owner, and there are {len(outline.owners)} owners; set "
                f"partition.num_owners to 1, or train with splitfed_v1 and cut 0"
            )

    def set_up(self, setting: Setting) -> None:
        options: MTLSplitOptions = self.options
        super().set_up(setting)
        spec = setting.spec
        if not isinstance(spec, ClassifierSpec):
            raise ValueError(
                f"MTL-Split trains the heads of a multi-task classifier, and the model is {spec.name!r}; use data with "
                f"several labels per image, such as shapes3d, and set model.name to multi_task"
            )
        if options.num_nodes is not None and options.num_nodes > len(spec.tasks):
            raise ValueError(
                f"algorithm.num_nodes is {options.num_nodes}, and each node holds the head of at least one of the "
                f"tasks {', '.join(spec.tasks)}; give at most {len(spec.tasks)}"
            )
        self.groups = dealt(spec.tasks, options.num_nodes or len(spec.tasks))
        self.frozen = spec.frozen
        self._best: tuple[float, int, dict[str, Tensor]] | None = None

    # -- who is deployed where -----------------------------------------------------------------------------------

    @property
    def cuts(self) -> tuple[Cut, ...]:
        return tuple(sum(map(len, self.groups[:k])) for k in range(len(self.groups)))

    @property
    def node_names(self) -> list[str]:
        return [f"heads-{k}" for k in range(len(self.groups))]

    def parties(self) -> list[PartySpec]:
        owner_recipe = self.recipe(0, optimizer=decaying(self.setting.optimizer))
        head_optimizer = decaying(self.setting.server_optimizer)
        restart = self.setting.restart_server_optimizer
        nodes = [
            self.node_party(name, self.recipe(k + 1, optimizer=head_optimizer), restart_optimizer=restart)
            for k, name in enumerate(self.node_names)
        ]
        return [*self.owner_parties(owner_recipe), *(replace(node, build=HeadsNode) for node in nodes)]

    # -- a round -------------------------------------------------------------------------------------------------

    def program(self) -> Program:
        return partial(heads_only_round if self.frozen else mtl_split_round, groups=self.groups)

    async def round(self, context: RoundContext) -> RoundReport:
        nodes: tuple[HeadsHandle, ...] = tuple(self.handles[name] for name in self.node_names)
        await gather(*[node.begin(context) for node in nodes])
        reports = await self.run_owners(self.program(), HeadsTeam(nodes=nodes), context)
        values = await self._validate(context.round)
        return RoundReport(owners=reports, server_steps=await nodes[0].num_steps(), values=values)

    async def _validate(self, round: int) -> dict[str, float]:
        """Compute the joint loss on validation images, and keep the state if it is the lowest so far."""
        validators: list[EvaluatorHandle] = [self.handles[spec.name] for spec in self.setting.validators]
        if not validators:
            return {}
        states = self.models()["global"]
        total = joined(await gather(*[validator.evaluate(*states) for validator in validators]))
        loss, figures = self._joint(total)
        if self._best is None or loss < self._best[0]:
            kept = {key: value.clone() for state in await gather(*states) for key, value in state.items()}
            self._best = loss, round, kept
        return {"val_loss": loss, **figures}

    def _joint(self, total: Evaluation) -> tuple[float, dict[str, float]]:
        """Return the sum of the tasks' losses, and the columns of their figures."""
        task = self.setting.task
        if task is None:
            return total.loss, {f"val_accuracy_{task}": share for task, share in total.task_accuracies.items()}
        figures = {f"val_{name}": value for name, value in task.figures(total.sums).items()}
        return figures.pop("val_loss"), figures

    # -- results -------------------------------------------------------------------------------------------------

    def models(self) -> dict[str, list[Promise[Weights]]]:
        (owner,) = self.setting.owners
        return {"global": [self.owner(owner).weights(), *[self.node(name).weights() for name in self.node_names]]}

    def chosen(self) -> Mapping[str, Mapping[str, Tensor]]:
        return {"global": self._best[2]} if self._best else {}

    def state_dict(self) -> dict[str, Any]:
        return {"best": list(self._best)} if self._best else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best = None
        if "best" in state:
            loss, round, weights = state["best"]
            self._best = loss, round, dict(weights)

    def summary(self) -> dict[str, Any]:
        groups = dict(zip(self.node_names, map(list, self.groups), strict=True))
        best = {"round": self._best[1] + 1, "val_loss": self._best[0]} if self._best else None
        return {"heads": groups, "best": best}


def joined(parts: Sequence[Evaluation]) -> Evaluation:
    """Add up evaluations of different samples."""
    first, *others = parts
    for part in others:
        first = first + part
    return first


def decaying(optimizer: OptimizerSpec) -> OptimizerSpec:
    """Set AdamW's weight decay to 0.01 of the learning rate, as published, unless it is given.

    PyTorch's default is 0.01 itself.
    """
    if optimizer.name != "adamw" or "weight_decay" in optimizer.options:
        return optimizer
    return replace(optimizer, options={**optimizer.options, "weight_decay": DECAY_PER_RATE * optimizer.lr})
