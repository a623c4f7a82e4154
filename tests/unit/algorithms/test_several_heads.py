"""Methods that join the batches of all owners, on a classifier with a head for each of several tasks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from combinations import KINDS, outcome
from support import same
from torch import Tensor, nn

from raysplit.actors.parts.joint_step import JointResult, JointRule, joint_gradients
from raysplit.actors.parts.losses import cross_entropy
from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.actors.parts.part import TrainablePart
from raysplit.models.classifier.heads import Heads
from raysplit.runs.result import Result
from raysplit.seeding import keyed_draws

SIZES = (3, 5)
CLASSES = {"shape": 3, "color": 2}


def joint(rule: JointRule) -> tuple[JointResult, list[Tensor]]:
    """The joint step of two linear heads on the batches of two owners, and the gradients of the heads."""
    with keyed_draws(1):
        heads = Heads(nn.ModuleDict({task: nn.Linear(4, count) for task, count in CLASSES.items()})).double()
        zs = [torch.randn(n, 4, dtype=torch.float64) for n in SIZES]
    ys = [{task: torch.arange(n) % count for task, count in CLASSES.items()} for n in SIZES]
    part = TrainablePart(heads, OptimizerSpec())
    found = joint_gradients(part, zs, ys, cross_entropy, rule, stream=0)
    return found, [weight.grad for weight in heads.parameters() if weight.grad is not None]


@pytest.mark.parametrize("switches", [{"server_forward": "grad_avg"}, {"grad_source": "per_client"}])
def test_the_switches_of_the_joint_step_agree_without_batch_norm(switches: dict[str, Any]) -> None:
    """The joint step took the outputs of the heads for one tensor: 'dict' object has no attribute 'split'."""
    one, heads = joint(JointRule())
    other, others = joint(JointRule(**switches))
    assert len(heads) == 4
    torch.testing.assert_close(others, heads)
    torch.testing.assert_close(other.gradients, one.gradients)
    assert other.losses == pytest.approx(one.losses)


def test_the_scale_of_owners_gradients_counts_for_either_source() -> None:
    """With gradients of a pass of their own, owners got those of their own mean losses whatever the scale."""
    own, _ = joint(JointRule(grad_source="per_client"))
    giant, _ = joint(JointRule(grad_source="per_client", client_grad_scale="giant"))
    for scaled, g, size in zip(giant.gradients, own.gradients, SIZES, strict=True):
        torch.testing.assert_close(scaled, g * size / sum(SIZES))


def train(num_owners: int, algorithm: dict[str, Any]) -> Result:
    found = outcome(
        {
            **KINDS["several labels"],
            "partition": {"name": "iid", "num_owners": num_owners},
            "algorithm": algorithm,
            "training": {"rounds": 2, "batch_size": 10, "owner_optimizer_state": "keep"},
            "cluster": {"kind": "local"},
        }
    )
    assert isinstance(found, Result), found
    return found


def test_with_one_owner_the_joint_step_is_centralized_training() -> None:
    whole = train(1, {"name": "centralised"})
    assert same(whole, train(1, {"name": "minibatch_sfl"}))
    (own,) = train(1, {"name": "mtsl"}).states.values()
    assert same(whole.states["global"], own)


def test_curvature_is_measured_through_the_heads() -> None:
    row = train(3, {"name": "mtsl", "learning_rates": {"every": 1, "iterations": 3}}).rows[0]
    assert row["server_rate"] > 0
    assert 0 < row["owner_rate_min"] < row["owner_rate_max"]
