"""Learning rates by step and by group of weights: the same in all parts of a model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dropout_net import ADAM, NET, SPLIT, net, run
from support import distance, run_on, same, settings, train, weights

import raysplit
from raysplit.actors.parts.optim import OptimizerSpec, ParameterGroup
from raysplit.actors.parts.part import TrainablePart
from raysplit.cluster.faults import Fault, FaultyCluster
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.errors import ConfigError
from raysplit.config.run import check_config
from raysplit.models.spec import ModelSpec
from raysplit.schedulers.learning_rate import StepRates, cosine

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
        "model": {"name": NET},
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
    model = {"name": NET, "precision": "bf16", "recompute": True}
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
    before = ModelSpec(name=NET, input_shape=(10,), num_classes=5, seed=3).build().state_dict()
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
