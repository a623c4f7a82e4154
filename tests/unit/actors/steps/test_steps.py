"""Steps beyond one batch and one update: split = unsplit in bits, and equal to what torch does on the whole model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import distance, run_on, same, settings, train, weights
from torch import Tensor, nn

import raysplit
from raysplit.actors.parts.optim import OptimizerSpec, ParameterGroup
from raysplit.actors.parts.part import TrainablePart
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import NonFiniteNorm, StepId
from raysplit.actors.steps.clip import coefficient, in_model_order, norms_of
from raysplit.actors.steps.rules import ClipRules, StepRules
from raysplit.cluster.device import Inline
from raysplit.cluster.faults import Fault, FaultyCluster
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.errors import ConfigError
from raysplit.config.run import check_config
from raysplit.models.spec import ModelSpec
from raysplit.schedulers.learning_rate import StepRates, cosine

ME = "unit.actors.steps.test_steps"
ADAM = {"name": "adamw", "lr": 0.01, "weight_decay": 0.1}
SPLIT: list[dict[str, Any]] = [
    {"name": "splitfed_v1", "cut": 3},
    {"name": "mpsl", "cuts": [2, 4]},
    {"name": "mpsl", "cuts": [1, 3, 5], "nodes": ["node-0", "node-1"]},
]


def net(num_classes: int, *, p: float = 0.3, norm: bool = False) -> nn.Module:
    """Dropout on both sides of the cuts, and on request a batch norm."""
    middle: list[nn.Module] = [nn.BatchNorm1d(16)] if norm else [nn.LayerNorm(16)]
    layers = [nn.Linear(10, 16), nn.Dropout(p), *middle, nn.ReLU(), nn.Dropout(p), nn.Linear(16, num_classes)]
    return nn.Sequential(*layers)


def run(algorithm: dict[str, Any], *, model: dict[str, Any] | None = None, **training: Any) -> Any:
    """Three owners of 80 samples: four batches of 18 and one of 8 in a round."""
    rules = {"rounds": 2, "batch_size": 18, "optimizer": ADAM, **training}
    return train(algorithm=algorithm, model={"name": f"{ME}:net", **(model or {})}, training=rules)


# -- micro-batches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", SPLIT)
def test_accumulated_steps_are_those_of_the_uncut_model(algorithm: dict[str, Any]) -> None:
    whole = run({"name": "fedavg"}, accumulate=3)
    assert same(run(algorithm, accumulate=3), whole)
    assert distance(whole, run({"name": "fedavg"})) > 1e-3


@pytest.mark.parametrize("name", ["splitnn", "splitfed_v2"])
def test_accumulated_steps_with_one_owner_are_centralised_training(name: str) -> None:
    central = train(
        algorithm={"name": "centralised"}, model={"name": f"{ME}:net"}, partition__num_owners=1, training=ACCUMULATED
    )
    split = train(
        algorithm={"name": name, "cut": 3}, model={"name": f"{ME}:net"}, partition__num_owners=1, training=ACCUMULATED
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
    central = train(
        algorithm={"name": "centralised"}, model={"name": f"{ME}:net"}, partition__num_owners=1, training=training
    )
    split = train(
        algorithm={"name": name, "cut": 3}, model={"name": f"{ME}:net"}, partition__num_owners=1, training=training
    )
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
    spec = ModelSpec(name=f"{ME}:net", input_shape=(10,), num_classes=5, seed=0, options={"p": 0.0})
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


# -- number type, recomputation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", SPLIT[:2])
def test_parts_in_bfloat16_are_the_model_in_bfloat16(algorithm: dict[str, Any]) -> None:
    whole = run({"name": "fedavg"}, model={"precision": "bf16"})
    split = run(algorithm, model={"precision": "bf16"})
    assert same(split, whole)
    assert 1e-5 < distance(whole, run({"name": "fedavg"})) < 0.1
    assert {value.dtype for value in weights(whole).values()} == {torch.float32}
    assert abs(whole.rows[0]["train_loss"] / run({"name": "fedavg"}).rows[0]["train_loss"] - 1) < 1e-2


def test_what_crosses_has_the_type_that_the_operator_before_the_cut_returns() -> None:
    """Behind a linear layer that is bfloat16, half the bytes; behind a sigmoid of the inputs it is float32."""
    spec = ModelSpec(name=f"{ME}:gated", input_shape=(10,), num_classes=5, seed=0)
    rules = StepRules(precision="bf16")
    crossing = []
    for cut in (1, 2):
        part = TrainablePart(spec.parts((cut,))[0], OptimizerSpec(), rules=rules)
        crossing.append(part.forward(torch.zeros(2, 10), stream=0))
    assert [z.dtype for z in crossing if isinstance(z, Tensor)] == [torch.float32, torch.bfloat16]


def gated(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Sigmoid(), nn.Linear(10, 4), nn.Linear(4, num_classes))


def test_bfloat16_beside_float64_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision is bf16 and dtype is float64"):
        check_config(settings(model__precision="bf16"))


@pytest.mark.parametrize("algorithm", [{"name": "fedavg"}, SPLIT[0], {"name": "minibatch_sfl", "cut": 3}])
@pytest.mark.parametrize("norm", [False, True])
def test_what_is_computed_again_is_the_same_with_dropout_and_running_statistics(
    algorithm: dict[str, Any], norm: bool
) -> None:
    model = {"norm": norm}
    assert same(run(algorithm, model={**model, "recompute": True}), run(algorithm, model=model))


def noisy(num_classes: int) -> nn.Module:
    return Noisy(num_classes)


class Noisy(nn.Module):
    """Draws from torch's global stream."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(10, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x + torch.randn_like(x))
        return y


def test_what_is_computed_again_draws_the_same() -> None:
    model = {"name": f"{ME}:noisy"}
    assert same(run({"name": "fedavg"}, model={**model, "recompute": True}), run({"name": "fedavg"}, model=model))


def test_a_part_that_computes_again_keeps_its_inputs_alone() -> None:
    spec = ModelSpec(name=f"{ME}:net", input_shape=(10,), num_classes=5, seed=0)
    saved: list[list[Tensor]] = []
    for recompute in (False, True):
        part, kept = TrainablePart(spec.parts(())[0], OptimizerSpec(), rules=StepRules(recompute=recompute)), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t) or t, lambda t: t):
            part.forward(torch.zeros(2, 10), stream=0)
        saved.append(kept)
    assert len(saved[1]) < len(saved[0])


# -- rates -------------------------------------------------------------------------------------------------------------


def test_factors_of_steps_are_the_closed_form() -> None:
    """Ten steps of the largest owner in each of three rounds; an owner of four has those of the same steps."""
    rates = StepRates(schedule="cosine", rounds=3, steps=10, warmup_steps=15)
    for round in range(3):
        for step in (0, 3, 9):
            number = round * 10 + step
            assert rates.factor(round, step) == min(1.0, (number + 1) / 15) * cosine(number, 30)
    assert [StepRates(rounds=1, steps=4, warmup_steps=4).factor(0, s) for s in range(4)] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("algorithm", SPLIT[:2])
def test_rates_that_change_by_step_are_the_same_in_all_parts(algorithm: dict[str, Any]) -> None:
    rules = {"lr_schedule": "cosine", "lr_schedule_per": "step", "warmup_steps": 5}
    whole = run({"name": "fedavg"}, **rules)
    assert same(run(algorithm, **rules), whole)
    for left_out in rules:
        rest = {key: value for key, value in rules.items() if key != left_out}
        assert distance(run({"name": "fedavg"}, **rest), whole) > 1e-5, left_out


def test_the_optimizer_has_the_rate_of_the_step() -> None:
    part = TrainablePart(net(5), OptimizerSpec(lr=0.2))
    rates, seen = StepRates(rounds=1, steps=4, warmup_steps=4), []
    for step in range(4):
        part.scale_step(rates.factor(0, step))
        assert part.optimizer is not None
        seen.append(part.optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([0.05, 0.1, 0.15, 0.2])


def test_a_resumed_run_continues_with_the_same_rates(tmp_path: Any) -> None:
    given = {
        "model": {"name": f"{ME}:net"},
        "data": {"name": "random", "num_classes": 5, "num_samples": 60, "dim": 10, "seed": 1},
        "partition": {"name": "iid", "num_owners": 2},
        "algorithm": {"name": "splitfed_v1", "cut": 3},
        "cluster": "local",
    }
    training = {"rounds": 3, "batch_size": 8, "optimizer": ADAM, "accumulate": 2, "clip": {"norm": 0.5}}
    training |= {"lr_schedule": "cosine", "lr_schedule_per": "step", "warmup_steps": 7}
    whole = raysplit.train(**given, training=training)

    class Stop(raysplit.Callback):
        def round_ended(self, row: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        raysplit.train(**given, training=training, folder=tmp_path / "run", callbacks=[Stop()])
    assert same(raysplit.resume(tmp_path / "run"), whole)


@pytest.mark.parametrize("at_call", [4, 9, 11])
def test_a_death_amid_a_step_leaves_no_trace(at_call: int) -> None:
    rules = {
        "rounds": 2,
        "batch_size": 18,
        "optimizer": ADAM,
        "accumulate": 2,
        "clip": {"norm": 0.5},
        "warmup_steps": 4,
    }
    model = {"name": f"{ME}:net", "precision": "bf16", "recompute": True}
    given: dict[str, Any] = {"algorithm": {"name": "splitfed_v2", "cut": 3}, "model": model, "training": rules}
    cluster = FaultyCluster(LocalCluster(), [Fault(party="server", at_call=at_call)])
    assert same(run_on(cluster, **given), train(**given))
    assert cluster.num_healed == 1


# -- groups ------------------------------------------------------------------------------------------------------------


def test_groups_go_by_names_of_the_whole_model_wherever_it_is_cut() -> None:
    groups = [{"match": "*.bias", "weight_decay": 0.0}, {"match": "5.*", "lr": 0.0}]
    rules = {"optimizer": {**ADAM, "groups": groups}}
    whole = run({"name": "fedavg"}, **rules)
    for algorithm in SPLIT[:2]:
        assert same(run(algorithm, **rules), whole)
    before = ModelSpec(name=f"{ME}:net", input_shape=(10,), num_classes=5, seed=3).build().state_dict()
    assert torch.equal(weights(whole)["5.weight"], before["5.weight"])  # a rate of 0
    assert not torch.equal(weights(whole)["5.bias"], before["5.bias"])  # the first group that matches counts


def test_a_group_keeps_its_own_rate_under_a_schedule() -> None:
    spec = OptimizerSpec(lr=0.1, groups=(ParameterGroup(match="0.*", lr=0.5),))
    part = TrainablePart(net(5), spec)
    part.scale_learning_rate(0.5)
    part.set_learning_rate(0.2)
    assert part.optimizer is not None
    assert [group["lr"] for group in part.optimizer.param_groups] == [0.1, 0.25]


def test_a_group_that_no_weight_belongs_to_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'head\.\*' .* fits no weight"):
        run({"name": "fedavg"}, optimizer={**ADAM, "groups": [{"match": "head.*", "lr": 0.1}]})
    with pytest.raises(ConfigError, match="neither lr nor weight_decay"):
        check_config(settings(training__optimizer={"groups": [{"match": "*"}]}))
