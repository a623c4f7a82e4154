"""Whole runs of transformers of other libraries: split as unsplit, and what is kept of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import same
from tiny_transformers import VOCABULARY, tiny_run

import raysplit
from raysplit.actors.parts.at_cuts import evaluated_model

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("name", ["gpt2", pytest.param("bert", marks=pytest.mark.slow), "vit"])
def test_a_split_transformer_is_the_unsplit_one_and_loads_into_its_class(name: str, tmp_path: Path) -> None:
    given = tiny_run(name, tmp_path)
    split = raysplit.train(**given, folder=tmp_path / "split")
    assert same(split, raysplit.train(**{**given, "algorithm": {"name": "fedavg"}}))
    trained = split.model()
    original = getattr(transformers, type(trained).__name__)(trained.config)
    original.load_state_dict(torch.load(tmp_path / "split" / "model.pt", weights_only=True), strict=True)
    x = torch.rand(2, 1, 8, 8) if name == "vit" else torch.arange(2 * 6).view(2, 6) % VOCABULARY
    assert torch.equal(original.eval()(x).logits, trained(x))
    specs = split.specs() if callable(split.specs) else split.specs
    assert torch.equal(evaluated_model(specs["global"], [split.states["global"]], None, "cpu")(x), trained(x))
