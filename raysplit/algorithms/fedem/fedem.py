"""FedEM: a few shared learners, and a mixture of them for every owner.

Marfoq, Neglia, Bellet, Kameni, Vidal, "Federated Multi-Task Learning under a Mixture of Distributions" (2021,
arXiv 2108.10252), algorithm 1. With l_ik the loss of sample i under learner k, owner m's round is

    E:  q_ik = pi_mk exp(-l_ik) / sum_j pi_mj exp(-l_ij),   pi_mk = mean_i q_ik
    M:  local epochs of every learner k on the losses weighted by q_ik

and the server averages each learner by data size. One learner is FedAvg, bit for bit. With other tasks than one class
per sample, l_ik is the sum of the losses of the sample's targets: of its pixels, tokens, labels or numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from raysplit.actors.data_owner import Batch, DataOwner
from raysplit.actors.parts.part import TrainablePart, on_device
from raysplit.actors.records import RoundContext
from raysplit.actors.verbs import Weights
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.fedem.mixture import MIXTURE, Mixture, MixtureSpec
from raysplit.algorithms.setting import AGGREGATOR, Options, RoundReport, Setting, Team
from raysplit.algorithms.unused import NO_COMMON_MODEL, NO_GUARDS, NO_NODE, OWN_PASSES
from raysplit.cluster.arriving.forms import Expected
from raysplit.cluster.contract import PartySpec, Promise
from raysplit.data.inputs import feed
from raysplit.models.classifier.spec import ClassifierSpec
from raysplit.models.cutting.dropout import dropout_stream
from raysplit.models.frozen import train_mode
from raysplit.tasks import KINDS, ElementTask, SeveralTasks, loss_name, make_task
from raysplit.tasks.outputs import auxiliary


async def fedem_round(owner: DataOwner, team: Team, context: RoundContext, *, seed: int, task: ElementTask) -> None:
    part = owner.first.part
    owner.load_weights({**await team.aggregator.current(), MIXTURE: mixture_in(part).mixture})
    q = responsibilities(owner, task)  # [N, K], E-step
    mixture_in(part).mixture.copy_(q.mean(0))  # pi_m
    for step_id, batch in owner.batches(context):
        stream = step_id.stream(seed, "dropout")
        step = partial(weighted_gradient, part, batch, q[batch.indices], task, stream=stream)
        loss = await owner.first.compute("loss", step_id, step)
        await owner.first.update(step_id)
        owner.note(step_id, loss, len(batch))
    learners = {key: value for key, value in owner.weights().items() if key != MIXTURE}
    await team.aggregator.submit(context, owner.name, learners)


def responsibilities(owner: DataOwner, task: ElementTask) -> Tensor:
    """E-step: compute q [N, K], the probability that learner k explains sample i, in stored order."""
    part = owner.first.part
    mixture, shard = mixture_in(part).eval(), owner.whole_shard("responsibilities")
    with torch.no_grad():
        losses = torch.cat([sample_losses(mixture, batch, part.device, task) for batch in shard], 1)
    return torch.softmax(mixture.mixture.log() - losses.T, 1)  # q_ik ~ pi_k exp(-l_ik)


def sample_losses(mixture: Mixture, batch: Batch, device: str, task: ElementTask) -> Tensor:
    """Compute the loss [K, B] of every sample under every learner, the sum over its targets."""
    x, y = on_device(batch.x, device), batch.y.to(device)
    return torch.stack([task.by_sample(feed(learner, x), y) for learner in mixture.learners])


def weighted_gradient(part: TrainablePart, batch: Batch, q: Tensor, task: ElementTask, *, stream: int) -> float:
    """M-step: accumulate the gradient of the mean over targets of sum_k q_ik l_ik.

    Learners share no weights, so one pass serves all.
    """
    mixture = mixture_in(part)
    train_mode(mixture)
    with dropout_stream(stream):
        value = weighted_loss(mixture, batch, part.device, q, task)
        torch.autograd.backward(value)
    return float(value.detach())


def weighted_loss(mixture: Mixture, batch: Batch, device: str, q: Tensor, task: ElementTask) -> Tensor:
    """Compute the losses weighted by q [B, K], summed over learners, and divided by the number of counted targets."""
    x, y = on_device(batch.x, device), batch.y.to(device)
    outputs = [feed(learner, x) for learner in mixture.learners]
    count = task.count(y)
    if task.kind == "classification" and count == len(y) and not auxiliary(outputs[0]):
        losses = torch.stack([task.by_sample(output, y) for output in outputs])
        return (q.T * losses).mean(1).sum()  # torch's own mean, as the plain loss takes it
    totals = [task.weighted_total(output, y, own) for output, own in zip(outputs, q.T, strict=True)]
    return torch.stack(totals).sum() / max(count, 1)


def mixture_in(part: TrainablePart) -> Mixture:
    assert isinstance(part.module, Mixture)
    return part.module


class MixtureOwner(DataOwner):
    """An owner whose mixing weights stay with it."""

    may_rest: ClassVar[bool] = True

    def expects(self, content: str, given: Mapping[str, Any]) -> Expected:
        """Expect the learners without mixing weights."""
        found = super().expects(content, given)
        return found._replace(required=[name for name in found.required if name != MIXTURE])


class FedEMOptions(Options):
    """Options of FedEM."""

    num_learners: int = Field(default=3, ge=1)
    """Number K of learners; the authors use 3."""


class FedEM(Algorithm):
    """FedEM: owners train shared learners, weighted by how well each explains their samples."""

    name = "fedem"
    can_be_simulated = False
    title = "FedEM"
    unused = {**NO_NODE, **NO_COMMON_MODEL, **OWN_PASSES, **NO_GUARDS}
    owner_type = MixtureOwner
    losses = tuple(map(loss_name, KINDS))  # samples are weighted by their likelihood
    options_type: ClassVar[type[Options]] = FedEMOptions

    def set_up(self, setting: Setting) -> None:
        options: FedEMOptions = self.options
        if isinstance(setting.spec, ClassifierSpec) or isinstance(setting.task, SeveralTasks):
            raise ValueError(
                f"FedEM weights each sample by the likelihood of its one label, and the model {setting.spec.name!r} "
                f"has an output for each of several tasks; set algorithm.name to another, such as fedavg or local, or "
                f"take data with one label per sample"
            )
        spec = MixtureSpec.of(setting.spec, options.num_learners, self._task(setting).kind)
        super().set_up(replace(setting, spec=spec))

    @staticmethod
    def _task(setting: Setting) -> ElementTask:
        """Return the task of the run; class labels without a task are a classification."""
        return setting.task if isinstance(setting.task, ElementTask) else make_task("classification", 1)

    def parties(self) -> list[PartySpec]:
        aggregator = self.aggregator_party(0)
        learners = {key: value for key, value in aggregator.arguments["state"].items() if key != MIXTURE}
        return [
            *self.owner_parties(self.recipe(0)),
            replace(aggregator, arguments={**aggregator.arguments, "state": learners}),
        ]

    async def round(self, context: RoundContext) -> RoundReport:
        await self.aggregator().begin(context)
        program = partial(fedem_round, seed=self.setting.seed, task=self._task(self.setting))
        return RoundReport(owners=await self.run_owners(program, Team(peers=self.peers(AGGREGATOR)), context))

    def models(self) -> dict[str, list[Promise[Weights]]]:
        """Promise for each owner its mixing weights with the averaged learners, which replace the owner's own."""
        learners = self.aggregator().current()
        return {name: [self.owner(name).weights(), learners] for name in self.setting.owners}
