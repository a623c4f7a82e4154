"""Models in folders: a party reads the weights of its own parts alone, and what it reads is checked."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import same
from tiny_transformers import GPT2, VOCABULARY, tiny_run

import raysplit
from raysplit.actors.expecting.forms import whole_model
from raysplit.actors.parts.at_cuts import evaluated_model
from raysplit.data.inputs import Input
from raysplit.models.adapters.lora import LoraRules
from raysplit.models.adapters.tuning import Tuning
from raysplit.models.adapters.weights import write_weights
from raysplit.models.building import prototypes
from raysplit.models.frozen import trained_state
from raysplit.models.sources import own_keys
from raysplit.models.sources.own_keys import FolderWeights
from raysplit.models.spec import ModelSpec

IDS = {"input_ids": Input(dtype=torch.int64, shape=(6,))}
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
GPT2_TIED = {key: value for key, value in GPT2.items() if key not in ("name", "tie_word_embeddings")}


def saved(kind: str, folder: Path, dtype: torch.dtype = torch.float32, **options: Any) -> ModelSpec:
    """The specification of a model in a folder, whose weights no seed gives."""
    transformers = pytest.importorskip("transformers")
    of_class = getattr(transformers, kind)
    model = of_class(of_class.config_class(**options)).to(dtype)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(0.01 * number)
    model.save_pretrained(folder, max_shard_size="2KB")
    found = {"inputs": IDS, "num_classes": VOCABULARY, "seed": 3, "front_end": "export"}
    return ModelSpec(name=f"hf:{folder}", tuning=Tuning(folder=FolderWeights.of(str(folder))), **found)  # type: ignore[arg-type]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The keys that are read, with their bytes."""
    found: list[tuple[str, int]] = []
    read = own_keys.read_tensor

    def counted(file: str, key: str) -> torch.Tensor:
        value = read(file, key)
        found.append((key, value.numel() * value.element_size()))
        return value

    monkeypatch.setattr(own_keys, "read_tensor", counted)
    return found


CASES: dict[str, tuple[tuple[int, ...], dict[str, Any], dict[str, Any]]] = {
    "GPT2LMHeadModel": ((1, 2), {**GPT2_TIED, "n_layer": 3}, {"ends": "together"}),
    "LlamaForCausalLM": ((1,), {**SMALL, "tie_word_embeddings": False}, {}),
    "BertModel": ((1,), SMALL, {"options": {"architecture": "BertForSequenceClassification"}}),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_part_reads_its_own_keys_alone(kind: str, tmp_path: Path, reads: list[tuple[str, int]]) -> None:
    """Tied weights are in the first part; the head of the classifier is in no file; Llama's rotary tables neither."""
    cuts, options, changes = CASES[kind]
    spec = replace(saved(kind, tmp_path, **options), **changes)
    whole = spec.build()
    state, head = whole.state_dict(), {"classifier.weight", "classifier.bias"}
    reads.clear()
    held = [spec.part(cuts, index) for index in range(len(cuts) + 1)]
    own = [name for part in held for name, _ in part.named_parameters() if name not in head]
    assert reads == [(name.removeprefix("bert."), 4 * state[name].numel()) for name in own]
    assert len(set(own)) == len(own)
    for part in held:
        assert same(part.state_dict(), {name: state[name] for name in part.state_dict()})
        assert not any(t.is_meta for t in [*part.parameters(), *part.buffers()])
        whole_buffers = dict(whole.named_buffers())
        assert all(torch.equal(b, whole_buffers[name]) for name, b in part.named_buffers() if name in whole_buffers)
    spec.check_cuttable()
    x = torch.randint(0, VOCABULARY, (2, 6))
    first, *others = [part.eval() for part in spec.parts(cuts)]
    z = first(input_ids=x)
    for part in others:
        z = part(*z) if isinstance(z, tuple) else part(z)
    assert torch.equal(z, whole.eval()(input_ids=x))


def test_frozen_weights_are_read_once_in_a_process(tmp_path: Path, reads: list[tuple[str, int]]) -> None:
    spec = saved("LlamaForCausalLM", tmp_path, **SMALL, tie_word_embeddings=False)
    spec = replace(spec, tuning=replace(spec.tuning, lora=LoraRules(rank=2)))
    reads.clear()
    one = spec.part((1,), 0)
    num_read, name = len(reads), "model.layers.0.mlp.up_proj.weight"
    two = spec.part((1,), 0)
    assert 0 < num_read == len(reads)
    assert one.get_parameter(name) is two.get_parameter(name)
    trained = [n for n, p in one.named_parameters() if p.requires_grad]
    assert trained
    assert all(one.get_parameter(n) is not two.get_parameter(n) for n in trained)


def test_half_precision_in_a_folder_becomes_the_type_of_the_run(tmp_path: Path) -> None:
    """A folder of bfloat16, as most are, was refused: "the model makes its weight bfloat16 itself"."""
    spec = saved("LlamaForCausalLM", tmp_path, torch.bfloat16, **SMALL, tie_word_embeddings=False)
    part, whole = spec.part((1,), 1), spec.build().state_dict()
    assert {value.dtype for value in whole.values()} == {torch.float32}
    assert same(part.state_dict(), {name: whole[name] for name in part.state_dict()})


def test_a_folder_whose_library_joins_keys_is_read_whole(tmp_path: Path) -> None:
    options = {"num_local_experts": 2, "num_key_value_heads": 2, "tie_word_embeddings": False}
    spec = saved("MixtralForCausalLM", tmp_path, **SMALL, **options)
    assert prototypes.outline(spec) is None
    assert spec.part((1,), 0).state_dict().keys() <= spec.build().state_dict().keys()


def test_other_weights_at_a_place_are_refused(tmp_path: Path) -> None:
    spec = saved("GPT2LMHeadModel", tmp_path, **GPT2_TIED, tie_word_embeddings=False)
    there = replace(spec, seed=4)
    saved("GPT2LMHeadModel", tmp_path, **GPT2_TIED | {"initializer_range": 0.3}, tie_word_embeddings=False)
    with pytest.raises(ValueError, match=r"'transformer.wte.weight' in .* has other values here than where the run"):
        there.part((1,), 0)
    os.remove(next(tmp_path.glob("model-00002-*.safetensors")))
    with pytest.raises(ValueError, match=r"names the file model-00002-.*, and there is none in the folder"):
        FolderWeights.of(str(tmp_path))


@pytest.mark.slow
def test_a_run_of_a_folder_has_the_weights_of_one_that_builds_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = saved("GPT2LMHeadModel", tmp_path / "base", **GPT2_TIED, tie_word_embeddings=False).name
    monkeypatch.chdir(tmp_path)
    split = tiny_run("gpt2", tmp_path, model={"name": "hf:./base", "lora": {"rank": 2}})
    result = raysplit.train(**split)
    monkeypatch.setattr(prototypes.hugging_face, "outline", lambda *args: None)
    assert same(
        result.states["global"], raysplit.train(**{**split, "model": {**split["model"], "name": name}}).states["global"]
    )


def test_files_beside_the_model_are_not_read(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    for name in ("model", "adapter_model", "consolidated"):
        write_weights({name: torch.ones(2)}, tmp_path / f"{name}.safetensors")
    assert own_keys.keys_of(tmp_path) == {"model": str(tmp_path / "model.safetensors")}


def test_an_evaluator_reads_a_frozen_base_once(tmp_path: Path, reads: list[tuple[str, int]]) -> None:
    """It built the whole model for each evaluation, beside the parts of the same process."""
    spec = replace(saved("LlamaForCausalLM", tmp_path, **SMALL, tie_word_embeddings=False))
    spec = replace(spec, tuning=replace(spec.tuning, lora=LoraRules(rank=2)))
    whole = spec.build()
    state, built = trained_state(whole), prototypes.prototype.cache_info().misses
    prototypes.frozen.cache_clear()
    part = spec.part((1,), 0)
    reads.clear()
    models = [evaluated_model(spec, [state], None, "cpu") for _ in range(2)]
    own = {name: id(p) for name, p in part.named_parameters() if not p.requires_grad}
    for model in models:
        assert {name: id(p) for name, p in model.named_parameters() if name in own} == own
        assert same(model.state_dict(), whole.state_dict())
    assert len(reads) == len({name for name, p in whole.named_parameters() if not p.requires_grad} - own.keys())
    assert whole_model(spec, 1).required == state.keys() - spec.fixed_keys()
    assert prototypes.prototype.cache_info().misses == built
