"""What must be exactly true of multi-task split learning (Zheng, Eryilmaz 2024, arXiv 2406.00150)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import distance, same, settings, train, weights
from torch import Tensor

from raysplit.algorithms import resolve_algorithm
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.setting import Setting
from raysplit.cluster.contract import Handle, PartySpec
from raysplit.cluster.links.tensors import Envelope
from raysplit.cluster.local.calls import LocalHandle
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config

State = dict[str, Tensor]
ONE_STEP = {"rounds": 1, "batch_size": 16, "max_steps": 1, "shuffle": False, "optimizer": {"lr": 0.1}}
OWN_RATES = {"server": 0.3, "owners": [0.1, 0.05, 0.2]}


def mtsl(**options: Any) -> dict[str, Any]:
    return {"name": "mtsl", "cut": 1, **options}


def setting_of(**changes: Any) -> Setting:
    return build(check_config(settings(**changes))).setting


def first_batches(setting: Setting, size: int) -> list[tuple[Tensor, Tensor]]:
    gen = torch.Generator()
    return [(d.transform(d.shard.x[:size], gen).double(), d.shard.y[:size]) for d in setting.owners.values()]


def states_of(result: Any) -> dict[str, State]:
    return {label: dict(state) for label, state in result.states.items()}


def all_same(a: dict[str, State], b: dict[str, State]) -> bool:
    return a.keys() == b.keys() and all(same(a[label], b[label]) for label in a)


async def rounds(algorithm: Algorithm, cohorts: Sequence[Sequence[str]], cluster: LocalCluster) -> dict[str, State]:
    """Play these rounds; the states of all parties."""
    handles = await cluster.deploy(algorithm.parties())
    algorithm.attach(handles)
    for round, cohort in enumerate(cohorts):
        await algorithm.round(algorithm.context(round, cohort))
    return {name: await handle.weights() for name, handle in handles.items()}


def play(setting: Setting, cohorts: Sequence[Sequence[str]], *, cluster: LocalCluster | None = None, **options: Any):
    kind = resolve_algorithm("mtsl")
    return asyncio.run(rounds(kind(setting, kind.options_type(cut=1, **options)), cohorts, cluster or LocalCluster()))


@pytest.mark.parametrize("steps", [1, 4])
def test_a_split_step_is_a_step_of_the_joint_graph(steps: int) -> None:
    """sum_m L_m / M on one machine, with the rate of each bottom times M because its loss is divided by M there."""
    training = {**ONE_STEP, "rounds": steps}
    setting = setting_of(training=training, algorithm=mtsl())
    batches = first_batches(setting, 16)
    bottoms = [setting.spec.parts((1,))[0] for _ in batches]
    top = setting.spec.parts((1,))[1]
    groups: list[dict[str, Any]] = [{"params": top.parameters(), "lr": 0.3}]
    groups += [{"params": b.parameters(), "lr": 3 * lr} for b, lr in zip(bottoms, OWN_RATES["owners"], strict=True)]
    optimizer = torch.optim.SGD(groups)
    for _ in range(steps):
        optimizer.zero_grad()
        losses = [F.cross_entropy(top(b(x)), y) for b, (x, y) in zip(bottoms, batches, strict=True)]
        (sum(losses) / 3).backward()
        optimizer.step()
    result = train(training=training, algorithm=mtsl(learning_rates=OWN_RATES))
    for (label, state), bottom in zip(states_of(result).items(), bottoms, strict=True):
        assert label.startswith("owner-")
        assert distance(state, {**bottom.state_dict(), **top.state_dict()}) <= 1e-12


@pytest.mark.parametrize("cut", [1, 2])
def test_with_one_owner_it_is_centralised_training_bit_for_bit(cut: int) -> None:
    central = train(algorithm={"name": "centralised"}, partition__num_owners=1)
    alone = train(algorithm={"name": "mtsl", "cut": cut}, partition__num_owners=1)
    assert same(alone.states["owner-0"], weights(central))


def test_the_sum_with_a_share_of_the_rate_is_the_mean() -> None:
    """Four owners, so that dividing by their number is exact in binary."""
    changes: dict[str, Any] = {"partition__num_owners": 4}
    mean = train(algorithm=mtsl(reduction="mean", learning_rates={"server": 0.5}), **changes)
    total = train(algorithm=mtsl(reduction="sum", learning_rates={"server": 0.125}), **changes)
    assert all_same(states_of(mean), states_of(total))


def test_tied_bottoms_are_centralised_training_on_the_joined_batch() -> None:
    """Bottoms that are averaged after every step are one bottom that sees the mean gradient."""
    one_batch = {"batch_size": 80, "shuffle": False, "optimizer": {"lr": 0.1}}
    central = train(
        algorithm={"name": "centralised", "batch_factor": 3}, training={**one_batch, "rounds": 1, "local_epochs": 5}
    )
    setting = setting_of(training={**one_batch, "rounds": 1}, algorithm=mtsl())
    kind = resolve_algorithm("mtsl")
    algorithm = kind(setting, kind.options_type(cut=1))

    async def tied() -> State:
        handles = await LocalCluster().deploy(algorithm.parties())
        algorithm.attach(handles)
        owners = list(setting.owners)
        for round in range(5):
            await algorithm.round(algorithm.context(round, owners))
            states = [await handles[name].weights() for name in owners]
            mean = {key: sum(state[key] for state in states) / 3 for key in states[0]}
            for name in owners:
                await handles[name].load_weights(mean)
        return {**mean, **await handles["server"].weights()}

    assert distance(asyncio.run(tied()), weights(central)) <= 1e-12


def test_tasks_meet_at_the_top_only() -> None:
    """Whether owner 1 trains its bottom matters to owner 0 exactly when the top learns."""

    def bottom(server_rate: float, rate_of_other: float) -> State:
        rates = {"server": server_rate, "owners": {"owner-1": rate_of_other}}
        state = train(algorithm=mtsl(learning_rates=rates)).states["owner-0"]
        return {key: value for key, value in state.items() if key.startswith("hidden1")}

    assert same(bottom(0.0, 0.1), bottom(0.0, 0.0))
    assert not same(bottom(0.1, 0.1), bottom(0.1, 0.0))


def test_an_absent_owner_leaves_no_trace() -> None:
    """Its bottom stays, and the mean is over those who are there: the run without it, bit for bit."""
    three = setting_of(algorithm=mtsl())
    names = list(three.owners)
    played = play(three, [names[:2]])
    untouched = three.spec.parts((1,))[0].state_dict()
    assert same(played["owner-2"], untouched)
    two = Setting(**{**vars(three), "owners": {name: three.owners[name] for name in names[:2]}})
    without = play(two, [names[:2]])
    assert all(same(played[name], without[name]) for name in without)


class _UnsteadyHandle(LocalHandle):
    """Lets others go first a random number of times before every call."""

    async def _run(self, caller: str, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Envelope:
        for _ in range(random.randrange(12)):
            await asyncio.sleep(0)
        return await super()._run(caller, verb, args, kwargs)


class UnsteadyCluster(LocalCluster):
    async def deploy(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        return {p.name: _UnsteadyHandle(p.name, p.build(name=p.name, **p.arguments), self._meter) for p in parties}


@pytest.mark.parametrize("arrival", range(4))
def test_steps_keep_their_order_when_owners_sit_some_out(arrival: int) -> None:
    """With disjoint owners in neighbouring steps the later step could be first at the top, and once was."""
    setting = setting_of(algorithm=mtsl(), training__batch_size=4)
    names = list(setting.owners)
    random.seed(arrival)
    steady = play(setting, [names, names], absence=0.6)
    unsteady = play(setting, [names, names], absence=0.6, cluster=UnsteadyCluster())
    assert all_same(steady, unsteady)


def test_owners_sit_out_as_often_as_asked() -> None:
    always = train(algorithm=mtsl(), training__batch_size=2)
    sometimes = train(algorithm=mtsl(absence=0.25), training__batch_size=2)
    share = sometimes.rows[0]["num_samples"] / always.rows[0]["num_samples"]
    assert 0.6 < share < 0.9
    assert sometimes.rows[0]["server_steps"] == always.rows[0]["server_steps"] == 40


@pytest.mark.parametrize(("batch_size", "rows"), [(16, 80), (32, 32 + 32 + 16), (50, 50 + 30)])
def test_traffic_is_activations_and_labels_up_and_gradients_down(batch_size: int, rows: int) -> None:
    """A step of b rows, q wide, in four bytes: b (4 q + 4) up and 4 b q down; uneven last batches included."""
    q = 16
    result = train(algorithm=mtsl(), model__dtype="float32", training={"rounds": 1, "batch_size": batch_size})
    steps = -(-80 // batch_size)
    up, down = rows * (4 * q + 4), rows * 4 * q
    found = {(t.source, t.destination): (t.num_bytes, t.num_messages) for t in result.links}
    expected = {(f"owner-{m}", "server"): (up, 2 * steps) for m in range(3)}  # activation and labels
    expected |= {("server", f"owner-{m}"): (down, steps) for m in range(3)}
    assert found == expected
    assert result.rows[0]["bytes"] == 3 * rows * (8 * q + 4)


def test_smaller_owners_go_through_their_data_again() -> None:
    """Lock-step: 19 samples beside 150 in batches of 32 are 32-row turns cut at 19, five of them."""
    partition = {"name": "quantity", "num_owners": 3}
    setting = setting_of(partition=partition, algorithm=mtsl())
    sizes = {name: len(data.shard) for name, data in setting.owners.items()}
    result = train(algorithm=mtsl(), partition=partition, model__dtype="float32", training={"rounds": 1})
    link = {(t.source, t.destination): t.num_bytes for t in result.links}
    steps = -(-max(sizes.values()) // 32)
    for name, size in sizes.items():
        pieces = [32] * (size // 32) + ([size % 32] if size % 32 else [])
        rows = sum((pieces * steps)[:steps])
        assert link[name, "server"] == rows * (4 * 16 + 4)
        assert link["server", name] == rows * 4 * 16
    assert len(set(sizes.values())) > 1


def test_same_seed_same_bits() -> None:
    runs = [states_of(train(algorithm=mtsl(absence=0.3))) for _ in range(2)]
    assert all_same(*runs)
