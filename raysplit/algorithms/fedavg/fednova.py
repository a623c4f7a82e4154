"""FedNova: federated averaging of owners that take different numbers of local steps.

Wang, Liu, Liang, Joshi, Poor, "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization"
(2020, arXiv 2007.07481), equation (6) and section 4. Owner i takes tau_i steps from w to w_i, which add its gradients
with the coefficients a_i. A mean of the w_i favors owners with many steps; FedNova averages the directions of a step:

    d_i = (w - w_i) / |a_i|,      w <- w - tau_eff sum_i p_i d_i,      tau_eff = sum_i p_i |a_i|

|a_i| is the sum of the coefficients: tau_i for SGD, and with momentum rho the gradient of step k = 0, ..., tau_i - 1
stays in all later steps, so that its coefficient is (1 - rho^(tau_i - k)) / (1 - rho). The learning rate of a round is
equal for all owners and goes out; weight decay is a part of the gradients.

Owner i forms w + tau_eff (w_i - w) / |a_i| itself and submits this, whose mean is the right side above. So everything
that judges, codes, sums or delays updates of FedAvg does the same here. tau_eff is of the owners that were drawn: where
a round ends without some of them, it is a factor on the step of the others, which all have alike. With equal numbers of
steps owners submit what they do in FedAvg. Statistics of batch norm are averaged as they are.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import fsum

from torch import Tensor

from raysplit.actors.data_owner import DataOwner, Program
from raysplit.actors.records import RoundContext
from raysplit.actors.verbs import Weights
from raysplit.algorithms.fedavg.fedavg import FedAvg, local_epochs
from raysplit.algorithms.setting import Setting, Team
from raysplit.algorithms.unused import NO_NODE


@dataclass(frozen=True, kw_only=True)
class LocalSteps:
    """The steps of owners in a round, as FedNova counts them.

    Attributes:
        momentum: rho, below 1.
        accumulate: mini-batches of a step.
    """

    momentum: float = 0.0
    accumulate: int = 1

    def norm(self, num_batches: int) -> float:
        """Return |a| of an owner with so many mini-batches, for which the sum in the paper has a closed form."""
        rho, steps = self.momentum, -(-num_batches // self.accumulate)
        return (steps - rho * (1 - rho**steps) / (1 - rho)) / (1 - rho)

    def effective(self, num_batches: Sequence[int], weights: Sequence[float]) -> float:
        """Return tau_eff of owners with these mini-batches and weights; |a| where all of them have the same."""
        norms = [self.norm(number) for number in num_batches]
        relative = [weight * (norm / norms[0]) for weight, norm in zip(weights, norms, strict=True)]
        return norms[0] * (fsum(relative) / fsum(weights))


async def train_and_submit_normalized(
    owner: DataOwner, team: Team, context: RoundContext, *, steps: LocalSteps, tau_eff: float
) -> None:
    """Train as in FedAvg, and submit the weights at which tau_eff steps of the mean direction would have ended."""
    w = owner.weights()
    await local_epochs(owner, team, context)
    scale = tau_eff / steps.norm(context.steps(owner.name))
    await team.aggregator.submit(context, owner.name, _scaled(owner, w, owner.weights(), scale))


def _scaled(owner: DataOwner, w: Weights, w_i: Weights, scale: float) -> Mapping[str, Tensor]:
    """Return w + scale (w_i - w) for the weights, and what else the owner has, such as statistics, as it is."""
    if scale == 1:
        return w_i
    names = {name for name, _ in owner.first.part.module.named_parameters(remove_duplicate=False)}
    return {
        name: (w[name].double() + scale * (value.double() - w[name].double())).to(value.dtype)
        if name in names and value.is_floating_point()
        else value
        for name, value in w_i.items()
    }


class FedNova(FedAvg):
    """FedNova: the mean direction of a step of each owner, however many steps it took."""

    name = "fednova"
    title = "FedNova"
    unused = NO_NODE | dict.fromkeys(
        ("training.lr_schedule_per", "training.warmup_steps"),
        "steps of a round with different learning rates have no common norm",
    )

    def set_up(self, setting: Setting) -> None:
        super().set_up(setting)
        optimizer, forgets = setting.optimizer, setting.training.restart_optimizer
        if optimizer.name != "sgd":
            raise ValueError(
                f"FedNova divides the way of an owner by the gradients that are in it, which are known for SGD, and "
                f"training.optimizer is {optimizer.name}; set it to sgd, or take algorithm.name: fedavg"
            )
        for name in ("dampening", "nesterov"):
            if optimizer.options.get(name):
                raise ValueError(
                    f"FedNova knows how often a gradient counts with SGD and its momentum, and {name} of "
                    f"training.optimizer is {optimizer.options[name]}; leave it out, or take algorithm.name: fedavg"
                )
        momentum = float(optimizer.options.get("momentum", 0.0))
        if momentum and not forgets:
            raise ValueError(
                f"FedNova counts the gradients of a round, and with momentum {momentum:g} and "
                f"training.owner_optimizer_state: keep those of earlier rounds are in the steps as well; set it to "
                f"restart, or momentum to 0"
            )
        self._steps = LocalSteps(momentum=momentum, accumulate=setting.training.accumulate)

    def kind_of(self, owner: str) -> Hashable:
        return None  # all owners do the same

    def program(self, context: RoundContext) -> Program:
        tau_eff = self._steps.effective(context.num_steps, context.weights)
        return partial(train_and_submit_normalized, steps=self._steps, tau_eff=tau_eff)
