"""Micro-batches and clipping: split = unsplit in bits, and equal to what torch does on the whole model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from dropout_net import ADAM, NET, SPLIT, run
from support import distance, same, settings, train
from torch import Tensor, nn

from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import NonFiniteNorm, StepId
from raysplit.actors.steps.clip import coefficient, in_model_order, norms_of
from raysplit.actors.steps.rules import ClipRules, StepRules
from raysplit.cluster.device import Inline
from raysplit.config.errors import ConfigError
from raysplit.config.run import check_config
from raysplit.models.spec import ModelSpec

ME = "unit.actors.steps.test_steps"


# -- micro-batches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", SPLIT)
def test_accumulated_steps_are_those_of_the_uncut_model(algorithm: dict[str, Any]) -> None:
    whole = run({"name": "fedavg"}, accumulate=3)
    assert same(run(algorithm, accumulate=3), whole)
    assert distance(whole, run({"name": "fedavg"})) > 1e-3


@pytest.mark.parametrize("name", ["splitnn", "splitfed_v2"])
def test_accumulated_steps_with_one_owner_are_centralised_training(name: str) -> None:
    central = train(
        algorithm={"name": "centralised"}, model={"name": NET}, partition__num_owners=1, training=ACCUMULATED
    )
    split = train(
        algorithm={"name": name, "cut": 3}, model={"name": NET}, partition__num_owners=1, training=ACCUMULATED
    )
    assert same(split, central)


ACCUMULATED = {"rounds": 1, "batch_size": 48, "accumulate": 4, "owner_optimizer_state": "keep", "optimizer": ADAM}


@pytest.mark.parametrize("order", ["blockwise", "interleaved"])
def test_turns_of_a_shared_part_do_not_mix_the_owners_of_a_step(order: str) -> None:
    """Four batches of 4 are one of 16 for each owner in its turn, whoever's turn is next."""
    algorithm, model = {"name": "splitfed_v2", "cut": 3, "order": order}, {"p": 0.0, "dtype": "float64"}
    rules = {"shuffle": False, "optimizer": {"lr": 0.1}}
    small = run(algorithm, model=model, accumulate=4, batch_size=4, **rules)
    large = run(algorithm, model=model, batch_size=16, **rules)
    assert distance(small, large) < 1e-12


@pytest.mark.parametrize("algorithm", [{"name": "fedavg"}, *SPLIT[:2]])
def test_micro_batches_are_one_batch_of_all_their_rows(algorithm: dict[str, Any]) -> None:
    """Batches of 50 and 30 make a step of 80: the loss is one mean over all targets, not a mean of two means."""
    rules = {"rounds": 1, "shuffle": False, "optimizer": {"lr": 0.1}}
    model = {"p": 0.0, "dtype": "float64"}
    parts = run(algorithm, model=model, batch_size=50, accumulate=2, **rules)
    assert distance(parts, run(algorithm, model=model, batch_size=80, **rules)) < 1e-12


def test_micro_batches_have_masks_of_their_own() -> None:
    first, second = (StepId(owner="a", round=0, step=4, micro=i, num_micro=2, counted=9) for i in (0, 1))
    assert first.stream(0, "dropout") == StepId(owner="a", round=0, step=4).stream(0, "dropout")  # as without
    assert first.stream(0, "dropout") != second.stream(0, "dropout")
    assert (first.is_last, second.is_last) == (False, True)
    assert (first.num_bytes, first.untold.num_bytes) == (8, 0)


@pytest.mark.parametrize("name", ["minibatch_sfl", "mtsl", "fedem"])
def test_methods_whose_steps_join_owners_refuse_to_accumulate(name: str) -> None:
    with pytest.raises(ConfigError, match="accumulate is 2, and"):
        check_config(settings(algorithm={"name": name}, training__accumulate=2))


# -- clipping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", SPLIT)
def test_parts_clipped_together_are_the_model_clipped_by_torch(algorithm: dict[str, Any]) -> None:
    """Each part clipped by itself would be another algorithm; norms of all tensors give the uncut model's bits."""
    clip = {"norm": 0.5}
    whole = run({"name": "fedavg"}, clip=clip)
    assert same(run(algorithm, clip=clip), whole)
    assert distance(run(algorithm, clip={**clip, "scope": "part"}), whole) > 1e-4
    assert distance(run({"name": "fedavg"}), whole) > 1e-3


@pytest.mark.parametrize("name", ["splitnn", "splitfed_v2"])
def test_a_shared_part_is_clipped_with_the_part_of_the_owner_in_turn(name: str) -> None:
    training = {**ACCUMULATED, "clip": {"norm": 0.3}}
    central = train(algorithm={"name": "centralised"}, model={"name": NET}, partition__num_owners=1, training=training)
    split = train(algorithm={"name": name, "cut": 3}, model={"name": NET}, partition__num_owners=1, training=training)
    assert same(split, central)


def test_a_norm_above_all_changes_no_bit() -> None:
    for algorithm in ({"name": "fedavg"}, SPLIT[0]):
        assert same(run(algorithm, clip={"norm": 1e9}), run(algorithm))


def test_the_exchange_of_norms_takes_the_bytes_that_the_documentation_says() -> None:
    """Four bytes for each trained tensor of the other parts, and four for the factor, at every step."""
    plain, clipped = (run(SPLIT[0], **more) for more in ({}, {"clip": {"norm": 1.0}}))
    sent = [sum(link.num_bytes for link in result.links) for result in (plain, clipped)]
    steps = 2 * 3 * 5  # rounds, owners, batches
    assert sent[1] - sent[0] == steps * (4 * 4 + 4)  # weight and bias of a linear layer and of a norm


def test_one_step_is_that_of_clip_grad_norm_with_weights_without_a_gradient() -> None:
    spec = ModelSpec(name=NET, input_shape=(10,), num_classes=5, seed=0, options={"p": 0.0})
    x, y = torch.randn(8, 10), torch.arange(8) % 5
    model = spec.parts(())[0].train()
    F.cross_entropy(model(x), y).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    optimizer.step()
    clip = StepRules(clip=ClipRules(norm=0.1))
    stage = PartRecipe(spec=spec, optimizer=OptimizerSpec(lr=0.5), rules=clip).build(Inline())
    stage.part.loss_gradient(x, y, F.cross_entropy, stream=0)
    stage._step(StepId(owner="a", round=0, step=0), clip, None)
    assert same(stage.part.weights(), dict(model.state_dict()))


def test_norms_are_put_into_the_order_of_the_model_and_missing_gradients_left_out() -> None:
    spec = ModelSpec(name=f"{ME}:crossed", input_shape=(4,), num_classes=2, seed=0)
    names = [name for name, _ in spec.parts(())[0].named_parameters()]
    parts = spec.parts((1,))
    values = {name: float(number) for number, name in enumerate(names)}
    norms = {i: torch.tensor([values[name] for name, _ in part.named_parameters()]) for i, part in enumerate(parts)}
    assert in_model_order(spec, (1,), norms).tolist() == sorted(values.values())
    idle = nn.Parameter(torch.zeros(3))
    assert norms_of([idle]).tolist() == [-1.0]
    step = StepId(owner="a", round=0, step=0)
    assert float(coefficient(step, torch.tensor([3.0, -1.0, 4.0]), 1.0)) == pytest.approx(0.2)


def crossed(num_classes: int) -> nn.Module:
    """Weights that stand in another order than they are used in."""
    return Crossed(num_classes)


class Crossed(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.last, self.first = nn.Linear(4, num_classes), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(torch.relu(self.first(x)))
        return y


def test_a_norm_that_is_not_finite_is_an_error_of_its_owner() -> None:
    step = StepId(owner="owner-2", round=1, step=4)
    with pytest.raises(NonFiniteNorm, match="gradients of owner-2 is nan in round 2, step 5"):
        coefficient(step, torch.tensor([1.0, float("nan")]), 1.0)
    with pytest.raises(NonFiniteNorm, match="is inf"):
        coefficient(step, torch.tensor([1.0, float("inf")]), 1.0)


@pytest.mark.parametrize("name", ["minibatch_sfl", "mtsl"])
def test_methods_with_several_losses_clip_part_by_part_or_say_why_not(name: str) -> None:
    with pytest.raises(ConfigError, match="add scope: part"):
        check_config(settings(algorithm={"name": name}, training__clip={"norm": 1.0}))
    algorithm, clip = {"name": name, "cut": 1}, {"norm": 0.01, "scope": "part"}
    plain, clipped = train(algorithm=algorithm), train(algorithm=algorithm, training__clip=clip)
    assert all(distance(plain.states[label], clipped.states[label]) > 1e-4 for label in plain.states)
