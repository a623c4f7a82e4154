"""The example with state at the owners and at the server: it is what the paper says, and nothing of it gets lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from disturbed import Killed, Killer, equal
from support import run_on, same, settings, train

from raysplit.actors.parts.owner_store import STORE
from raysplit.api import resume, train_config
from raysplit.cluster.faults import Fault, FaultyCluster
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config, load_config

EXAMPLES = Path(__file__).parents[3] / "examples"
TRAINING = {"rounds": 4, "batch_size": 16, "local_epochs": 2, "cohort_size": 3, "optimizer": {"lr": 0.1}}
UNEVEN = {"name": "dirichlet", "num_owners": 5, "alpha": 0.5}


@pytest.fixture(autouse=True)
def _in_the_folder_of_the_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def scaffold(*, training: dict[str, Any] = TRAINING, **options: Any) -> dict[str, Any]:
    """Sections of the settings."""
    return {"algorithm": {"name": "scaffold:Scaffold", **options}, "training": training, "partition": UNEVEN}


@pytest.mark.parametrize("model", [{"name": "mlp", "dtype": "float64"}, {"name": "support:dropout_net"}])
def test_the_first_round_is_that_of_fedavg(model: dict[str, Any]) -> None:
    """All control variates are zero."""
    once, twice = {**TRAINING, "rounds": 1}, {**TRAINING, "rounds": 2}
    fedavg = {"algorithm": {"name": "fedavg"}, "partition": UNEVEN, "model": model}
    assert same(train(**scaffold(training=once), model=model), train(**fedavg, training=once))
    assert not same(train(**scaffold(training=twice), model=model), train(**fedavg, training=twice))


@pytest.mark.parametrize("global_rate", [1.0, 0.5])
def test_it_is_algorithm_1_of_the_paper(global_rate: float) -> None:
    """Four owners of equal size, two of which take part in a round; a batch is all that an owner has."""
    training = {"rounds": 1, "batch_size": 100, "local_epochs": 3, "optimizer": {"lr": 0.1}}
    sections = scaffold(training=training, global_rate=global_rate)
    config = check_config(settings(**{**sections, "partition": {"name": "iid", "num_owners": 4}}))
    setting = build(config).setting
    cohorts = [("owner-0", "owner-2"), ("owner-1", "owner-2"), ("owner-0", "owner-1"), ("owner-2", "owner-3")]
    found, control, controls = asyncio.run(_rounds(config, cohorts))
    shards = {name: data.shard for name, data in setting.owners.items()}
    assert len({len(shard) for shard in shards.values()}) == 1

    model = setting.spec.build()
    names = [name for name, _ in model.named_parameters()]
    x = [p.detach().clone() for p in model.parameters()]
    c = [torch.zeros_like(p) for p in x]
    c_i = dict.fromkeys(shards, c)
    for cohort in cohorts:
        ys, changes = [], []
        for owner in cohort:
            y = [p.clone().requires_grad_() for p in x]
            for _ in range(3):
                out = torch.func.functional_call(model, dict(zip(names, y, strict=True)), (shards[owner].x.double(),))
                gradients = torch.autograd.grad(F.cross_entropy(out, torch.as_tensor(shards[owner].y)), y)
                steps = zip(y, gradients, c_i[owner], c, strict=True)
                y = [(p - 0.1 * (g - own + all_)).detach().requires_grad_() for p, g, own, all_ in steps]
            after = [own - all_ + (p - q) / (3 * 0.1) for own, all_, p, q in zip(c_i[owner], c, x, y, strict=True)]
            changes.append([new - old for new, old in zip(after, c_i[owner], strict=True)])
            ys.append([q - p for q, p in zip(y, x, strict=True)])
            c_i = {**c_i, owner: after}
        x = [p + global_rate * (a + b) / 2 for p, a, b in zip(x, *ys, strict=True)]
        c = [p + 2 / 4 * (a + b) / 2 for p, a, b in zip(c, *changes, strict=True)]
    for name, p, all_ in zip(names, x, c, strict=True):
        torch.testing.assert_close(found[name], p.detach(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(control[name], all_.detach(), rtol=1e-9, atol=1e-12)
        for owner in shards:
            torch.testing.assert_close(
                controls[owner][name], c_i[owner][names.index(name)].detach(), rtol=1e-9, atol=1e-12
            )


async def _rounds(config: Any, cohorts: Sequence[tuple[str, ...]]) -> tuple[Any, Any, dict[str, Any]]:
    """x, c and every owner's c_i after rounds of these cohorts."""
    algorithm = build(config).begin()
    algorithm.attach(await LocalCluster().deploy(algorithm.parties()))
    before: dict[str, Any] = {}
    for round, cohort in enumerate(cohorts):
        await algorithm.round(algorithm.context(round, cohort))
        now = {name: (await algorithm.owner(name).state_dict())["control"] for name in algorithm.setting.owners}
        for name, control in before.items():
            if name not in cohort:  # nobody touches what an absent owner keeps
                assert same(now[name], control)
        before = now
    server = await algorithm.aggregator().state_dict()
    return server["current"], server["control"], before


def test_the_server_s_control_variate_is_the_weighted_mean_of_the_owners() -> None:
    config = check_config(settings(**scaffold()))
    sizes = {name: len(data.shard) for name, data in build(config).setting.owners.items()}
    assert len(set(sizes.values())) > 1
    _, control, controls = asyncio.run(_rounds(config, [("owner-0", "owner-1"), ("owner-1", "owner-3")]))
    assert controls["owner-2"] == {}
    for name, c in control.items():
        parts = [controls[o][name] * size / sum(sizes.values()) for o, size in sizes.items() if controls[o]]
        torch.testing.assert_close(c, torch.stack(parts).sum(0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("after", [1, 3])
def test_a_run_that_was_cut_short_goes_on_to_the_same_bits(after: int, tmp_path: Path) -> None:
    """The owners that were not drawn in the last round come again, and need what they had."""
    with pytest.raises(Killed):
        train_config(check_config(settings(**scaffold())), folder=tmp_path / "cut", callbacks=[Killer(after)])
    assert equal(resume(tmp_path / "cut"), train(**scaffold()))


@pytest.mark.parametrize(
    "fault",
    [
        Fault(party="owner-1", verb="run_round", at_call=2, turns=4),
        Fault(party="aggregator", verb="submit_both", at_call=5),
        Fault(party="aggregator", at_call=12),
    ],
)
def test_a_death_leaves_no_trace(fault: Fault) -> None:
    cluster = FaultyCluster(LocalCluster(), [fault])
    assert equal(run_on(cluster, **scaffold()), train(**scaffold()))
    assert cluster.num_healed == 1


def test_idle_owners_may_be_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its class says that it holds on to no module."""
    free = train(**scaffold())
    packed: list[int] = []
    monkeypatch.setattr(STORE, "max_at_hand", 0)
    monkeypatch.setattr(STORE, "max_bytes_at_hand", 0)
    monkeypatch.setattr(STORE, "_pack", lambda key, parts, pack=STORE._pack: (packed.append(key), pack(key, parts)))
    assert equal(train(**scaffold()), free)
    assert packed


def test_momentum_is_refused() -> None:
    with pytest.raises(ValueError, match=r"off the way that plain SGD went, and the optimizer is sgd with {'momentum'"):
        train(**scaffold(training={**TRAINING, "optimizer": {"lr": 0.1, "momentum": 0.9}}))


def test_a_round_that_goes_on_without_some_is_refused() -> None:
    with pytest.raises(ValueError, match="over_selection"):
        train(**scaffold(), reliability={"over_selection": 0.3})


def test_the_example_trains() -> None:
    config = load_config(EXAMPLES / "scaffold_digits.yaml", ["cluster.kind=local", "training.rounds=4"])
    assert train_config(config).accuracy > 0.3
