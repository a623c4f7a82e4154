"""Idle owners are packed, in memory or in a file, and nobody can tell from the weights."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from support import run_on, same, train

from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.actors.parts.owner_store import STORE, OwnerParts, OwnerStore
from raysplit.actors.parts.stage import PartRecipe
from raysplit.cluster.device import Inline
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.models.spec import ModelSpec

SPEC = ModelSpec(name="mlp", input_shape=(6,), num_classes=3, options={"hidden": [5]}, seed=1, dtype="float64")
NORMED = {"name": "support:dropout_net", "dtype": "float64", "send_inputs": ["x"]}
MOMENTUM = OptimizerSpec(name="sgd", lr=0.1, options={"momentum": 0.9})
KEEP = {
    "rounds": 3,
    "batch_size": 16,
    "cohort_size": 2,
    "owner_optimizer_state": "keep",
    "optimizer": {"lr": 0.1, "momentum": 0.9},
}


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_limits(max_at_hand: int, max_packed_bytes: int) -> None:
        monkeypatch.setattr(STORE, "max_at_hand", max_at_hand)
        monkeypatch.setattr(STORE, "max_bytes_at_hand", 0)
        monkeypatch.setattr(STORE, "max_packed_bytes", max_packed_bytes)

    return set_limits


def owner(store: OwnerStore | None, optimizer: OptimizerSpec = MOMENTUM) -> OwnerParts:
    return OwnerParts([PartRecipe(spec=SPEC, optimizer=optimizer)], Inline(), store)


def step(parts: OwnerParts, seed: int) -> None:
    part = parts.stages[0].part
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    part.loss_gradient(x, torch.tensor([0, 1, 2, 0]), torch.nn.functional.cross_entropy, stream=seed)
    part.step()


@pytest.mark.parametrize("max_packed_bytes", [0, 1000, 10**9])
def test_owners_that_take_turns_train_like_owners_at_hand(max_packed_bytes: int) -> None:
    """Momentum and rates too; 1000 bytes hold two of the packed owners, the others are in the file."""
    store = OwnerStore(max_at_hand=1, max_bytes_at_hand=0, max_packed_bytes=max_packed_bytes)
    pairs = [(owner(store), owner(None)) for _ in range(5)]
    for turn in range(4):
        for seed, (packed, plain) in enumerate(pairs):
            for parts in (packed, plain):
                if turn == 1:
                    parts.stages[0].part.scale_learning_rate(0.5)
                step(parts, seed)
    assert store.num_at_hand == 1
    assert store.num_spilled == {0: 4, 1000: 3, 10**9: 0}[max_packed_bytes]
    for packed, plain in pairs:
        assert same(packed.stages[0].part.weights(), plain.stages[0].part.weights())


def test_a_new_owner_starts_from_the_initial_weights_in_a_used_module() -> None:
    store = OwnerStore(max_at_hand=1, max_bytes_at_hand=0)
    first, second, third = (owner(store) for _ in range(3))
    step(first, 0)
    step(second, 1)
    used = {id(parts.stages[0].part.module) for parts in (second, first)}
    assert id(third.stages[0].part.module) in used
    assert same(third.stages[0].part.weights(), SPEC.build().state_dict())


def test_owners_at_work_are_never_packed() -> None:
    store = OwnerStore(max_at_hand=1, max_bytes_at_hand=0)
    owners = [owner(store) for _ in range(4)]
    with owners[0].busy(), owners[1].busy():
        modules = [parts.stages[0].part.module for parts in owners]
        assert owners[0].stages[0].part.module is modules[0]
        assert owners[1].stages[0].part.module is modules[1]
        assert store.num_at_hand == 3  # those two and the latest
    assert store.num_at_hand == 1


def test_small_owners_stay_at_hand_up_to_a_size() -> None:
    """Packing the parts of a small model and unpacking them took a tenth of a round."""
    one = owner(OwnerStore())
    _ = one.stages
    store = OwnerStore(max_at_hand=1, max_bytes_at_hand=3 * one.num_bytes)
    owners = [owner(store) for _ in range(5)]
    for seed, parts in enumerate(owners):
        step(parts, seed)
        assert store.num_at_hand == min(seed + 1, 3)
    del parts
    owners.pop()
    gc.collect()
    assert store.num_at_hand == 2
    step(owners[2], 0)
    assert store.num_at_hand == 3


def test_what_is_gone_takes_no_room() -> None:
    store = OwnerStore(max_at_hand=1, max_bytes_at_hand=0, max_packed_bytes=0)
    owners = [owner(store) for _ in range(4)]
    for seed, parts in enumerate(owners):
        step(parts, seed)
    assert (store.num_at_hand, store.num_spilled) == (1, 3)
    del parts
    owners.clear()
    gc.collect()
    assert (store.num_at_hand, store.num_spilled) == (0, 0)


def test_the_file_does_not_grow_with_the_rounds() -> None:
    store = OwnerStore(max_at_hand=1, max_bytes_at_hand=0, max_packed_bytes=0)
    owners = [owner(store) for _ in range(3)]

    def turn() -> int:
        for seed, parts in enumerate(owners):
            step(parts, seed)
        assert store._spilled._file is not None
        return store._spilled._file.seek(0, 2)

    turn()
    size = turn()
    assert [turn() for _ in range(5)] == [size] * 5


@pytest.mark.parametrize("name", ["fedavg", "splitfed_v1", "local"])
@pytest.mark.parametrize("max_packed_bytes", [0, 10**9])
def test_limits_leave_no_trace_in_a_run(name: str, max_packed_bytes: int, limits: Any) -> None:
    changes: dict[str, Any] = {
        "algorithm": {"name": name, "cut": 2},
        "partition__num_owners": 5,
        "training": KEEP,
        "model": NORMED,
    }
    free = train(**changes)
    limits(0, max_packed_bytes)
    tight = run_on(LocalCluster(), **changes)
    for label, state in free.states.items():
        assert same(state, tight.states[label])


def test_an_owner_that_goes_while_others_are_packed_harms_nobody() -> None:
    """The collector may end owners of an earlier run at any moment; the store once fell over the missing entry."""
    store = OwnerStore(max_at_hand=3, max_bytes_at_hand=0)
    owners = [owner(store) for _ in range(4)]
    for parts in owners[:3]:
        step(parts, 0)
    victim, pack = owners.pop(1), store._pack

    def pack_while_one_goes(key: int, parts: OwnerParts) -> None:
        store.forget(victim.key)
        pack(key, parts)

    store._pack = pack_while_one_goes  # type: ignore[method-assign]
    store.max_at_hand = 0
    step(owners[-1], 0)
    assert store.num_at_hand <= 1
