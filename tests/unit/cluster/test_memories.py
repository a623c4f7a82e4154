"""What codecs keep for many owners is in a file beyond a limit, and nobody can tell from the weights."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from support import run_on, same, settings
from torch import Tensor, nn

from raysplit.actors.parts.owner_store import STORE
from raysplit.cluster import memories
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.cluster.memories import Memories
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.training.preflight import expected_needs
from raysplit.training.recovery import recovery

LINKS: dict[str, Any] = {"rules": [{"from": "owner-*", "kind": "weights", "codec": "power_sgd"}], "weights": "int8"}
MANY: dict[str, Any] = {
    "algorithm": {"name": "fedavg"},
    "model": {"name": "mlp", "hidden": [32]},
    "data__num_samples": 1250,
    "training": {"rounds": 2, "batch_size": 1, "optimizer": {"lr": 0.1}},
    "evaluation": {"every": 2},
}


def memory_of(store: Memories, party: str, value: float) -> None:
    store.of(party).kept["residual"] = torch.full((10,), value)
    store.settle(party)


def test_the_longest_idle_are_in_the_file_and_come_back() -> None:
    store = Memories(max_bytes=80)
    for i in range(4):
        memory_of(store, f"owner-{i}", float(i))
    assert store.num_spilled == 2
    assert store.of("owner-0").kept["residual"].tolist() == [0.0] * 10
    store.settle("owner-0")
    assert store.num_spilled == 2
    assert [float(store.of(f"owner-{i}").kept["residual"][0]) for i in range(4)] == [0, 1, 2, 3]


def test_what_is_under_way_stays_at_hand() -> None:
    """An update that the aggregator has not taken yet belongs to the round, and its owner is not idle."""
    store = Memories(max_bytes=0)
    store.of("owner-0").aside["residual"] = torch.ones(10)
    memory = store.of("owner-0")
    store.settle("owner-0")
    assert store.num_spilled == 0
    memory.commit()
    store.settle("owner-0")
    assert store.num_spilled == 1
    assert store.of("owner-0").kept["residual"].sum() == 10


@pytest.mark.slow
def test_the_estimate_of_memory_is_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counted residuals once, and checkpoints had two copies more, with the weights that owners get in every round.

    A thousand owners, all of whose parts and residuals are in files.
    """
    many = {**MANY, "partition__num_owners": 1000, "training__max_steps": 1, "links": {"weights": "int4"}}
    monkeypatch.setattr(memories, "MAX_KEPT_BYTES", 0)
    monkeypatch.setattr(STORE, "max_at_hand", 0)
    monkeypatch.setattr(STORE, "max_packed_bytes", 0)
    experiment = build(check_config(settings(**many)))
    algorithm = experiment.begin()
    needs = expected_needs(experiment, algorithm, algorithm.parties(), {"CPU": 1})
    found: list[int] = []
    plain = recovery.snapshot

    def measured(*args: Any, **fields: Any) -> Any:
        found.append(live_bytes())
        return plain(*args, **fields)

    monkeypatch.setattr(recovery, "snapshot", measured)
    gc.collect()
    before = live_bytes()
    run_on(LocalCluster(links=experiment.link_rules()), **many)
    assert max(found) - before == pytest.approx(needs.models_bytes + needs.codecs_bytes, rel=0.1)


def live_bytes() -> int:
    """The bytes of all tensors of this process, of which several may share memory."""
    storages = [each.untyped_storage() for each in gc.get_objects() if type(each) in (Tensor, nn.Parameter)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.parametrize("num_owners", [10, pytest.param(1000, marks=pytest.mark.slow)])
def test_owners_with_feedback_in_files_have_the_bits_of_owners_in_memory(
    num_owners: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Residuals of a thousand owners once stayed in memory, while their parts went to a file."""
    rules = check_config(settings(links=LINKS)).links.link_rules()
    many = {**MANY, "partition__num_owners": num_owners, "training__max_steps": 1}
    free = run_on(LocalCluster(links=rules), **many)
    monkeypatch.setattr(memories, "MAX_KEPT_BYTES", 0)
    monkeypatch.setattr(STORE, "max_at_hand", 0)
    monkeypatch.setattr(STORE, "max_bytes_at_hand", 0)
    monkeypatch.setattr(STORE, "max_packed_bytes", 0)
    cluster = LocalCluster(links=rules)
    tight = run_on(cluster, **many)
    assert cluster._link._memories.num_spilled == num_owners  # type: ignore[attr-defined]
    assert same(free, tight)
    assert free.links == tight.links
    assert sum(t.num_bytes for t in free.links) < sum(t.raw_bytes for t in free.links)
