"""FedNova is what the paper says (Wang et al. 2020, arXiv 2007.07481), and nothing of it depends on where it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from disturbed import Killed, Killer, equal
from support import distance, run_on, same, settings, train, weights
from torch import Tensor, nn

from raysplit.algorithms.fedavg.fednova import LocalSteps
from raysplit.api import resume, train_config
from raysplit.cluster.faults import Fault, FaultyCluster
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.errors import ConfigError
from raysplit.config.run import check_config

UNEVEN = {"name": "quantity", "num_owners": 3, "law": "linear"}
TRAINING = {"rounds": 2, "batch_size": 16, "local_epochs": 2, "optimizer": {"lr": 0.1, "momentum": 0.9}}


def run(name: str, *, partition: dict[str, Any] = UNEVEN, training: dict[str, Any] = TRAINING, **more: Any) -> Any:
    return train(algorithm={"name": name}, partition=partition, training=training, **more)


def test_with_equal_numbers_of_steps_it_is_fedavg() -> None:
    """Owners of one size, and owners of different sizes whose steps are limited."""
    even, limited = {"name": "iid", "num_owners": 3}, {**TRAINING, "max_steps": 4}
    assert same(run("fednova", partition=even), run("fedavg", partition=even))
    assert same(run("fednova", training=limited), run("fedavg", training=limited))
    assert distance(run("fednova"), run("fedavg")) > 1e-3


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("steps", [1, 2, 17])
def test_the_norm_is_the_way_of_a_constant_gradient(momentum: float, steps: int) -> None:
    """What torch's SGD adds up of gradients of 1 at a rate of 1, and the sum in the paper."""
    w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=1.0, momentum=momentum)
    for _ in range(steps):
        w.grad = -torch.ones_like(w)
        optimizer.step()
    summed = sum((1 - momentum ** (steps - k)) / (1 - momentum) for k in range(steps))
    assert LocalSteps(momentum=momentum).norm(steps) == pytest.approx(summed, rel=1e-12)
    assert w.item() == pytest.approx(summed, rel=1e-12)


def test_mini_batches_that_are_accumulated_are_one_step() -> None:
    assert [LocalSteps(accumulate=4).norm(number) for number in (4, 5, 8)] == [1, 2, 2]


def test_the_effective_steps_are_the_weighted_mean() -> None:
    assert LocalSteps().effective([5, 1], [0.75, 0.25]) == 4.0
    assert LocalSteps(momentum=0.9).effective([7] * 3, [0.1, 0.2, 0.7]) == LocalSteps(momentum=0.9).norm(7)


@pytest.mark.parametrize(
    ("optimizer", "accumulate"),
    [({"lr": 0.1}, 1), ({"lr": 0.1, "momentum": 0.9}, 1), ({"lr": 0.1, "momentum": 0.5, "weight_decay": 0.01}, 2)],
)
def test_two_rounds_by_equation_6_of_the_paper(optimizer: dict[str, float], accumulate: int) -> None:
    training = {**TRAINING, "optimizer": optimizer, "accumulate": accumulate, "shuffle": False, "local_epochs": 1}
    setting = build(check_config(settings(algorithm={"name": "fednova"}, partition=UNEVEN, training=training))).setting
    model = setting.spec.build()
    shards = [owner.shard for owner in setting.owners.values()]
    p = [len(shard) / sum(map(len, shards)) for shard in shards]
    w = {name: value.detach().clone() for name, value in model.named_parameters()}
    for _ in range(2):
        directions, norms = [], []
        for shard in shards:
            model.load_state_dict(w)
            sgd = torch.optim.SGD(model.parameters(), **optimizer)
            chunks = torch.arange(len(shard)).split(16 * accumulate)
            for indices in chunks:
                batch = shard.take(indices)
                model.zero_grad()
                F.cross_entropy(model(torch.as_tensor(batch.x).double()), torch.as_tensor(batch.y)).backward()
                sgd.step()
            rho, tau = optimizer.get("momentum", 0.0), len(chunks)
            norms.append(sum((1 - rho ** (tau - k)) / (1 - rho) for k in range(tau)))
            directions.append({name: (w[name] - v.detach()) / norms[-1] for name, v in model.named_parameters()})
        assert len(set(norms)) == 3
        tau_eff = sum(share * norm for share, norm in zip(p, norms, strict=True))
        for share, d in zip(p, directions, strict=True):
            w = {name: value - tau_eff * share * d[name] for name, value in w.items()}
    assert distance(run("fednova", training=training), w) < 1e-13


def line(num_classes: int) -> nn.Module:
    """Weights that are the outputs for an input of 1."""
    return nn.Linear(1, num_classes, bias=False)


def quadratic(outputs: Tensor, y: Tensor) -> Tensor:
    """Half of the squared distance of the first output from the label."""
    return 0.5 * (outputs[:, 0] - y).square().mean()


def test_it_finds_the_optimum_where_fedavg_is_biased(tmp_path: Path) -> None:
    """An owner of 40 samples at 1 takes five steps, one of 8 samples at 4 takes one; the mean of all samples is 1.5.

    A step at the rate r leaves 1 - r of the distance. FedAvg ends where sum p_i (1 - (1 - r)^tau_i) (c_i - w) is 0,
    FedNova where each term is divided by tau_i, which is the optimum but for terms of r.
    """
    y, owner = np.repeat([1, 4, 1], [40, 8, 5]), np.repeat([0, 1, 0], [40, 8, 5])
    split = np.repeat(["train", "test"], [48, 5])
    np.savez(tmp_path / "two.npz", x=np.ones((53, 1), np.float32), y=y, owner=owner, split=split)
    rate, rounds = 0.05, 60
    found = {
        name: run(
            name,
            model={"name": f"{__name__}:line", "dtype": "float64"},
            data={"name": str(tmp_path / "two.npz"), "mean": [0.0], "std": [1.0]},
            partition={"name": "natural_id", "num_owners": 2},
            training={
                "rounds": rounds, "batch_size": 8, "optimizer": {"lr": rate}, "loss": f"{__name__}:quadratic",
            },
            evaluation={"every": rounds},
        )
        for name in ("fedavg", "fednova")
    }  # fmt: skip
    ends = {name: weights(result)["weight"][0].item() for name, result in found.items()}
    p, tau, c = (5 / 6, 1 / 6), (5, 1), (1, 4)
    for name, divided, tau_eff in (("fedavg", (1, 1), 1.0), ("fednova", tau, 26 / 6)):
        pulls = [share * (1 - (1 - rate) ** t) / by for share, t, by in zip(p, tau, divided, strict=True)]
        fixed = sum(pull * at for pull, at in zip(pulls, c, strict=True)) / sum(pulls)
        assert (1 - tau_eff * sum(pulls)) ** rounds < 1e-5
        assert ends[name] == pytest.approx(fixed, abs=1e-4)
    assert abs(ends["fednova"] - 1.5) < 0.05
    assert abs(ends["fedavg"] - 1.5) > 0.35


def test_statistics_of_batch_norm_are_averaged_as_they_are() -> None:
    """They are means over batches, whose number says nothing about how far they went."""
    once = {**TRAINING, "rounds": 1}
    model = {"name": "support:normed_net", "dtype": "float64"}
    nova, avg = (weights(run(name, training=once, model=model)) for name in ("fednova", "fedavg"))
    statistics = {name for name in nova if "running" in name or "num_batches" in name}
    assert statistics
    assert all(nova[name].equal(avg[name]) is (name in statistics) for name in nova)


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ({"optimizer": {"name": "adam", "lr": 0.1}}, "training.optimizer is adam; set it to sgd"),
        ({"optimizer": {"lr": 0.1, "momentum": 0.9, "nesterov": True}}, "nesterov of training.optimizer is True"),
        ({"optimizer": {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}}, "dampening of training.optimizer is 0.5"),
        ({"owner_optimizer_state": "keep"}, "set it to restart, or momentum to 0"),
        ({"warmup_steps": 3}, "training.warmup_steps is 3, and fednova does not use it"),
        ({"lr_schedule": "cosine", "lr_schedule_per": "step"}, "training.lr_schedule_per is 'step', and fednova"),
    ],
)
def test_settings_without_a_known_norm_are_refused(training: dict[str, Any], told: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=told):
        build(check_config(settings(algorithm={"name": "fednova"}, training={**TRAINING, **training}))).begin()


def test_settings_with_the_same_norm_are_taken() -> None:
    taken: list[dict[str, Any]] = [
        {"training": {**TRAINING, "optimizer": {"lr": 0.1}, "owner_optimizer_state": "keep"}},
        {"training": {**TRAINING, "lr_schedule": "cosine", "cohort_size": 2}},
        {"reliability": {"aggregation": "median"}},
        {"reliability": {"over_selection": 0.5}, "training": {**TRAINING, "cohort_size": 2}},
        {"links": {"weights": "float16"}},
    ]
    for more in taken:
        assert distance(run("fednova", **more), run("fedavg", **more)) > 1e-4


def test_owners_that_are_computed_at_once_end_where_they_do_alone() -> None:
    training = {"rounds": 2, "batch_size": 16, "optimizer": {"lr": 0.1}}
    alone, at_once = (run("fednova", training={**training, "vectorize": number}) for number in (1, 3))
    assert distance(alone, at_once) < 1e-12


@pytest.mark.parametrize(
    "fault", [Fault(party="owner-0", verb="run_round", at_call=2, turns=4), Fault(party="aggregator", at_call=6)]
)
def test_a_death_leaves_no_trace(fault: Fault) -> None:
    sections = {"algorithm": {"name": "fednova"}, "partition": UNEVEN, "training": {**TRAINING, "rounds": 3}}
    cluster = FaultyCluster(LocalCluster(), [fault])
    assert equal(run_on(cluster, **sections), train(**sections))
    assert cluster.num_healed == 1


def test_a_run_that_was_cut_short_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    sections = {"algorithm": {"name": "fednova"}, "partition": UNEVEN, "training": {**TRAINING, "rounds": 3}}
    with pytest.raises(Killed):
        train_config(check_config(settings(**sections)), folder=tmp_path / "cut", callbacks=[Killer(1)])
    assert equal(resume(tmp_path / "cut"), train(**sections))
