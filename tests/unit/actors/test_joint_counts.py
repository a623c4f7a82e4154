"""A joint step weighs owners by counted elements, tokens or labels, and not by rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from raysplit.actors.parts.joint_step import JointResult, JointRule, joint_gradients
from raysplit.actors.parts.losses import cross_entropy
from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.actors.parts.part import TrainablePart
from raysplit.tasks import make_task

TASK = make_task("token_classification", 4)
LOGITS = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0))


def targets(*counts: int) -> list[Tensor]:
    """One row of seven tokens for each owner, of which so many count."""
    return [torch.tensor([[1] * count + [-100] * (7 - count)]) for count in counts]


def joint(ys: list[Tensor], rule: JointRule | None = None) -> JointResult:
    part = TrainablePart(nn.Identity(), OptimizerSpec())
    zs = [LOGITS[i : i + 1] for i in range(len(ys))]
    return joint_gradients(part, zs, ys, TASK, rule or JointRule(), stream=0)


def joint_gradient(ys: list[Tensor]) -> Tensor:
    """The gradient of (sum of the losses of all counted tokens) / (their number)."""
    logits = LOGITS[: len(ys)].clone().requires_grad_()
    total, count = TASK.total(logits, torch.cat(ys))
    (total / count).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    return logits.grad


def test_an_owner_gets_the_joint_gradient_times_all_counts_over_its_own() -> None:
    """With rows as weights, an owner with 3 of 10 tokens would get twice the joint gradient."""
    ys = targets(3, 7)
    found, wanted = joint(ys), joint_gradient(ys)
    assert found.mass == 10
    first, second = found.gradients
    assert isinstance(first, Tensor)
    assert isinstance(second, Tensor)
    assert torch.allclose(first[0], wanted[0] * 10 / 3, atol=1e-7)
    assert torch.allclose(second[0], wanted[1] * 10 / 7, atol=1e-7)
    own = [float(TASK(LOGITS[i : i + 1], ys[i])) for i in range(2)]
    assert found.losses == pytest.approx(own, abs=1e-6)


def test_the_giant_scale_sends_the_joint_gradient_itself() -> None:
    ys = targets(3, 7)
    found = joint(ys, JointRule(client_grad_scale="giant"))
    assert torch.allclose(
        torch.cat([g for g in found.gradients if isinstance(g, Tensor)]), joint_gradient(ys), atol=1e-7
    )


@pytest.mark.parametrize(
    "rule", [JointRule(), JointRule(server_forward="grad_avg"), JointRule(grad_source="per_client")]
)
def test_an_owner_without_a_counted_token_changes_nothing(rule: JointRule) -> None:
    alone, both = joint(targets(3), rule), joint(targets(3, 0), rule)
    assert both.losses == pytest.approx((alone.losses[0], 0.0))
    first, nothing = both.gradients
    assert isinstance(first, Tensor)
    assert isinstance(alone.gradients[0], Tensor)
    assert torch.allclose(first, alone.gradients[0], atol=1e-7)
    assert not nothing.any()  # type: ignore[union-attr]
    assert not any(g.any() for g in joint(targets(0, 0), rule).gradients)  # type: ignore[union-attr]


def test_labels_that_are_missing_do_not_count_without_a_task_either() -> None:
    """Weighed by rows, an owner with two labels in four rows got half of its own gradient."""
    logits, y = torch.randn(4, 3), torch.tensor([1, 2, -100, -100])
    part = TrainablePart(nn.Identity(), OptimizerSpec())
    other, all_there = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    found = joint_gradients(part, [logits, other], [y, all_there], cross_entropy, JointRule(), stream=0)
    own = logits.clone().requires_grad_()
    cross_entropy(own, y).backward()  # type: ignore[no-untyped-call]
    assert own.grad is not None
    assert torch.allclose(found.gradients[0], own.grad, atol=1e-7)  # type: ignore[arg-type]
