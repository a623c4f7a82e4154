"""Models of other libraries by name: their weights, what the data tell them, and what is refused."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from support import same
from tiny_transformers import GPT2, VOCABULARY, tiny_run

import raysplit
from raysplit.data.inputs import Input
from raysplit.models.spec import ModelSpec

IDS = {"input_ids": Input(dtype=torch.int64, shape=(6,))}


def saved(folder: Path) -> str:
    """The name of a model of transformers in a folder, with weights that no seed of a run gives."""
    transformers = pytest.importorskip("transformers")
    options = {key: value for key, value in GPT2.items() if key != "name"}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=VOCABULARY, **options))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(0.01 * number)
    model.save_pretrained(folder)
    return f"hf:{folder}"


def test_a_folder_gives_the_weights_that_a_split_run_begins_with(tmp_path: Path) -> None:
    name = saved(tmp_path / "base")
    safetensors = importlib.import_module("safetensors.torch")
    stored = safetensors.load_file(tmp_path / "base" / "model.safetensors")
    initial = ModelSpec(name=name, inputs=IDS, num_classes=VOCABULARY, seed=5).initial_state()
    assert initial.keys() == stored.keys()
    assert all(torch.equal(value, stored[key]) for key, value in initial.items())
    still = {"rounds": 1, "batch_size": 6, "optimizer": {"name": "sgd", "lr": 0.0}}
    moved = {**still, "optimizer": {"name": "sgd", "lr": 0.1}}
    given = tiny_run("gpt2", tmp_path, model={"name": name})
    assert same(raysplit.train(**{**given, "training": still}).states["global"], stored)
    assert not same(raysplit.train(**{**given, "training": moved}).states["global"], stored)


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    name = saved(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"has no \*\.safetensors; pickled weights are not read"):
        ModelSpec(name=name, inputs=IDS, num_classes=VOCABULARY, seed=0).build()


def test_a_model_of_timm_takes_the_pictures_of_the_data() -> None:
    pytest.importorskip("timm")
    spec = ModelSpec(
        name="timm:vit_tiny_patch16_224",
        input_shape=(1, 32, 32),
        num_classes=4,
        seed=0,
        options={"embed_dim": 12, "depth": 2, "num_heads": 2},
    )
    model, x = spec.build().eval(), torch.rand(3, 1, 32, 32)
    first, last = (part.eval() for part in spec.with_front_end().parts(["blocks.0"]))
    z = first(x)
    assert z.shape == (3, 5, 12)
    assert torch.equal(last(z), model(x))
    with pytest.raises(ValueError, match=r"pretrained would download some"):
        ModelSpec(name=spec.name, input_shape=(1, 32, 32), num_classes=4, seed=0, options={"pretrained": True}).build()
