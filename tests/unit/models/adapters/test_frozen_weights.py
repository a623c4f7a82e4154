"""Frozen weights exist once in a process, and nobody averages, sends or keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_transformer import run, small, spec
from support import same, weights
from torch import nn

import raysplit
from raysplit.actors.parts.at_cuts import AtCuts, evaluated_model
from raysplit.actors.parts.stage import PartRecipe
from raysplit.cluster.device import Inline
from raysplit.models.adapters.lora import LoraRules

ME = "unit.models.adapters.test_frozen_weights"


def test_frozen_weights_exist_once_in_a_process() -> None:
    tuned = spec(lora=LoraRules(rank=2))
    for cuts in ((), ("2", "3")):
        recipes = [PartRecipe(spec=tuned, cuts=cuts, index=index) for index in range(len(cuts) + 1)]
        owners = [[recipe.build(Inline()).part for recipe in recipes] for _ in range(3)]
        for part, *others in zip(*owners, strict=True):
            frozen = {name: id(p) for name, p in part.module.named_parameters() if not p.requires_grad}
            trained = {name: id(p) for name, p in part.module.named_parameters() if p.requires_grad}
            assert frozen
            for other in others:
                found = dict(other.module.named_parameters())
                assert {name: id(found[name]) for name in frozen} == frozen
                assert all(id(found[name]) != number for name, number in trained.items())
    part = owners[0][0]
    packed = part.pack()
    assert sum(t.numel() for t in packed.tensors) == sum(
        p.numel() for p in tuned.parts(cuts)[0].parameters() if p.requires_grad
    )


@pytest.mark.parametrize("cuts", [(), ("2", "3")], ids=["whole", "with codecs at cuts"])
def test_an_evaluated_model_shares_them_too(cuts: tuple[str, ...]) -> None:
    """Every evaluation copied the base, so that a process had it twice while it evaluated."""
    tuned = spec(lora=LoraRules(rank=2))
    recipes = [PartRecipe(spec=tuned, cuts=cuts, index=index) for index in range(len(cuts) + 1)]
    held = {id(p): name for recipe in recipes for name, p in recipe.module().named_parameters() if not p.requires_grad}
    state = {name: value + 1 for name, value in tuned.initial_state().items()}
    at_cuts = AtCuts(cuts=cuts, codecs=(None,) * len(cuts), batch_size=1) if cuts else None
    model = evaluated_model(tuned, [state], at_cuts, "cpu")
    frozen = [p for p in model.parameters() if not p.requires_grad]
    assert {id(p) for p in frozen} == held.keys()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all(torch.equal(p, state[name.split(".", 2)[2] if cuts else name]) for name, p in trained.items())
    assert torch.equal(tuned.build().state_dict()["1.weight"], spec().build().state_dict()["1.weight"])


def test_what_is_loaded_does_not_change_what_is_shared() -> None:
    tuned = spec(lora=LoraRules(rank=2))
    part = PartRecipe(spec=tuned).build(Inline()).part
    part.load_weights({name: torch.ones_like(p) for name, p in part.module.state_dict().items()})
    assert torch.equal(tuned.build().state_dict()["1.weight"], spec().build().state_dict()["1.weight"])
    assert bool((part.module.get_parameter("1.lora_b") == 1).all())


def test_nothing_returns_where_everything_in_front_is_frozen() -> None:
    """The owners' part is frozen as a whole: no gradient comes back, and there is nothing to average."""
    frozen, usual = (
        run({"name": name, "cut": "3"}, model={"lora": None, "freeze": freeze}, training={"rounds": 1})
        for name, freeze in (("splitfed_v1", ["1.*", "2.*", "3.*"]), ("splitfed_v1", []))
    )
    kinds = [
        {kind.kind: kind.num_bytes for link in r.links for kind in link.kinds if link.source == "server"}
        for r in (frozen, usual)
    ]
    assert kinds[0].get("gradients", 0) == 0 < kinds[1]["gradients"]
    assert same(run("fedavg", model={"lora": None, "freeze": ["1.*", "2.*", "3.*"]}, training={"rounds": 1}), frozen)
    joint = run({"name": "minibatch_sfl", "cut": "3"}, model={"lora": None, "freeze": ["1.*", "2.*", "3.*"]})
    assert gradient_bytes(joint) == 0


def gradient_bytes(result: Any) -> int:
    return sum(kind.num_bytes for link in result.links for kind in link.kinds if kind.kind == "gradients")


def test_only_what_train_names_is_trained() -> None:
    result = run("fedavg", model={"lora": None, "train": ["6.*"]})
    base = spec().build().state_dict()
    changed = {key for key, value in weights(result).items() if not torch.equal(value, base[key])}
    assert changed == {"6.weight", "6.bias"}


def test_checkpoints_have_what_is_trained_alone(tmp_path: Path) -> None:
    """At most 16 bytes per trained number and holder, and 64 KiB."""
    model = {"name": f"{ME}:wide", "lora": {"rank": 2}}
    folder = tmp_path / "run"
    training = {"rounds": 2, "batch_size": 16, "optimizer": {"lr": 1e-3, "momentum": 0.9}}
    raysplit.train(**{**small(), "model": model, "training": training}, folder=folder)
    (newest,) = sorted((folder / "checkpoints").glob("round-*.ckpt"))[-1:]
    trained, holders = 2 * (10 + 400 + 400 + 5), 2 + 1 + 1  # owners, aggregator, server
    assert newest.stat().st_size < 16 * trained * holders + 2**16
    assert newest.stat().st_size < 4 * 400 * 410  # the base once


def wide(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(10, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, num_classes))
