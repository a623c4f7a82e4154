"""Small models of other libraries, batches of their inputs, and a step of parts and of the model as written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from raysplit.actors.parts.leaves import as_tuple, gradients, leaves
from raysplit.data.inputs import Input, Values, feed
from raysplit.models.cutting.dropout import Keyed, seed_dropouts
from raysplit.models.spec import ModelSpec

IDS = Input(dtype=torch.int64, shape=(None,), ragged=True)
MASK = Input(dtype=torch.int64, shape=(None,), ragged=True, role="side")
VOCABULARY = 50
TINY = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
ENDS = {"bos_token_id": 0, "eos_token_id": 0}
TOKENS: Mapping[str, tuple[str, dict[str, Input], dict[str, Any]]] = {
    "GPT-2": (
        "hf:GPT2LMHeadModel",
        {"input_ids": IDS},
        {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 64, "tie_word_embeddings": False, **ENDS},
    ),
    "Llama": (
        "hf:LlamaForCausalLM",
        {"input_ids": IDS, "attention_mask": MASK},
        {**TINY, "num_key_value_heads": 1, "attention_dropout": 0.1, "max_position_embeddings": 64, **ENDS},
    ),
    "BERT": (
        "hf:BertForSequenceClassification",
        {"input_ids": IDS, "attention_mask": MASK},
        {**TINY, "vocab_size": 50},
    ),
    "T5": (
        "hf:T5ForTokenClassification",
        {"input_ids": IDS, "attention_mask": MASK},
        {"num_layers": 2, "num_heads": 2, "d_model": 16, "d_kv": 8, "d_ff": 32, "vocab_size": VOCABULARY},
    ),
}
PICTURES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "swin_t": ("torchvision:swin_t", {}),
    "ConvNeXt": ("hf:ConvNextForImageClassification", {"hidden_sizes": (8, 16), "depths": (2, 2), "num_stages": 2}),
}


def token_spec(name: str, **changes: Any) -> ModelSpec:
    model, inputs, options = TOKENS[name]
    return ModelSpec(
        name=model, inputs=inputs, num_classes=VOCABULARY, seed=0, options={**options, **changes}, front_end="export"
    )


def picture_spec(name: str) -> ModelSpec:
    model, options = PICTURES[name]
    return ModelSpec(name=model, input_shape=(3, 32, 32), num_classes=5, seed=0, options=options, front_end="export")


def batch(spec: ModelSpec, rows: int, length: int) -> Values:
    """Random tokens with masks that hide the end of the last row, or random pictures."""
    drawn = torch.Generator().manual_seed(100 * rows + length)
    made = {}
    for name, entry in dict(spec.inputs).items():
        if entry.role == "side":
            mask = torch.ones(rows, length, dtype=torch.int64)
            mask[-1, length // 2 :] = 0
            made[name] = mask
        elif entry.dtype.is_floating_point:
            return torch.randn(rows, *spec.input_shape, generator=drawn)
        else:
            made[name] = torch.randint(0, VOCABULARY, (rows, length), generator=drawn)
    return made


def step_of(parts: Sequence[nn.Module], inputs: Values) -> tuple[Tensor, dict[str, Tensor | None], dict[str, Tensor]]:
    """Return output, gradients and buffers after a forward and backward pass across the cuts."""
    for part in parts:
        part.zero_grad()
    outputs = [as_tuple(feed(parts[0], inputs))]
    entered: list[tuple[Tensor, ...]] = []
    for part in parts[1:]:
        entered.append(leaves(outputs[-1]))
        outputs.append(as_tuple(part(*entered[-1])))
    (last,) = outputs[-1]
    last.pow(2).sum().backward()  # type: ignore[no-untyped-call]
    for z, received in zip(reversed(outputs[:-1]), reversed(entered), strict=True):
        pairs = [(a, g) for a, g in zip(z, as_tuple(gradients(received)), strict=True) if a.requires_grad]
        torch.autograd.backward([a for a, _ in pairs], [g for _, g in pairs])
    found = {name: p.grad for part in parts for name, p in part.named_parameters()}
    buffers = {name: b for part in parts for name, b in part.named_buffers()}
    return last.detach(), found, buffers


def without_dropout(module: nn.Module, *, training: bool) -> nn.Module:
    """Set the mode of a module, in which nothing is dropped."""
    seed_dropouts(module)
    for child in module.modules():
        if isinstance(child, Keyed):
            child.keep_everything()
        if isinstance(getattr(child, "attention_dropout", None), float):
            child.attention_dropout = 0.0
    return module.train(training)
