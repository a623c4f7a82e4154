"""Tied weights at both ends of a model, which the owner has in MP-SL: one tensor, and the bits of the unsplit run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import same
from tiny_transformers import GPT2, tiny_run

import raysplit
from raysplit.data.inputs import Input
from raysplit.models.spec import ModelSpec

pytest.importorskip("transformers")
TIED = {**GPT2, "tie_word_embeddings": True}
U_SHAPE = {"name": "mpsl", "cuts": ["transformer.h.0", "transformer.h.1"]}


@pytest.mark.parametrize("steps", [{}, {"accumulate": 2}, {"clip": {"norm": 0.1}, "accumulate": 2}])
def test_a_tied_model_in_a_u_shape_is_the_unsplit_one(steps: dict[str, Any], tmp_path: Path) -> None:
    """Its head has the embedding's weights, and a cut between them was refused, although both ends are the owner's."""
    training = {"rounds": 2, "batch_size": 3, "optimizer": {"name": "adamw", "lr": 0.01}, **steps}
    given = tiny_run("gpt2", tmp_path, model=TIED, training=training)
    whole = raysplit.train(**given | {"algorithm": {"name": "fedavg"}})
    split = raysplit.train(**given | {"algorithm": U_SHAPE})
    assert same(split, whole)
    assert split.rows[-1]["test_loss"] == whole.rows[-1]["test_loss"]
    trained = split.states["global"]
    assert trained["lm_head.weight"] is trained["transformer.wte.weight"]  # sent, averaged and stored once
    head = split.model().state_dict()
    assert torch.equal(head["lm_head.weight"], trained["transformer.wte.weight"])


def test_the_last_part_borrows_the_weight_of_the_first_one() -> None:
    ids = Input(dtype=torch.int64, shape=(6,))
    options = {key: value for key, value in TIED.items() if key != "name"}
    spec = ModelSpec(
        name="hf:GPT2LMHeadModel", inputs={"input_ids": ids}, num_classes=12, seed=0, options=options, ends="together"
    )
    first, _, last = spec.parts(U_SHAPE["cuts"])
    assert "transformer.wte.weight" in dict(first.named_parameters())
    assert not [name for name in last.state_dict() if "wte" in name or "lm_head" in name]
    last(*[torch.ones(2, 6, 8)]).sum().backward()
    assert first.get_parameter("transformer.wte.weight").grad is not None


def test_a_tied_model_is_not_cut_in_two(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'transformer.wte.weight' is used .* as 'lm_head.weight', after .*mpsl"):
        raysplit.train(**tiny_run("gpt2", tmp_path, model=TIED))


def test_a_killed_owner_of_a_tied_model_leaves_no_trace(tmp_path: Path) -> None:
    whole = raysplit.train(**tiny_run("gpt2", tmp_path, model=TIED, algorithm=U_SHAPE), folder=tmp_path / "whole")
    stopped = tiny_run("gpt2", tmp_path, model=TIED, algorithm=U_SHAPE)
    with pytest.raises(KeyboardInterrupt):
        raysplit.train(**stopped, folder=tmp_path / "run", callbacks=[Stop()])
    assert same(raysplit.resume(tmp_path / "run", trust=True), whole)


class Stop(raysplit.Callback):
    """Stops a run after its first round."""

    def round_ended(self, *given: Any, **more: Any) -> None:
        raise KeyboardInterrupt
