"""Runs of tiny transformers with dropout in every layer, on arrays of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY = 12
_BLOCKS = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 16}
_DROPOUT = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}
GPT2: dict[str, Any] = {
    "name": "hf:GPT2LMHeadModel",
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 8,
    "n_positions": 16,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "tie_word_embeddings": False,
}
MODELS: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,
    "bert": {"name": "hf:BertForSequenceClassification", **_BLOCKS, **_DROPOUT},
    "vit": {"name": "hf:ViTForImageClassification", **_BLOCKS, **_DROPOUT, "patch_size": 4},
}


def tiny_run(name: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """Two rounds of a model on arrays of three owners, which are written to the folder."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, VOCABULARY, (30, 6))
    ids[:VOCABULARY, 0] = np.arange(VOCABULARY)
    y = ids[:, 0] % 2
    pictures = (rng.normal(0, 1, (30, 1, 8, 8)) + y[:, None, None, None]).astype(np.float32)
    arrays: dict[str, dict[str, Any]] = {
        "gpt2": {"input_ids": ids},
        "bert": {"input_ids": ids, "y": y},
        "vit": {"x": pictures, "y": y},
    }
    path = folder / f"{name}.npz"
    np.savez(path, owner=np.repeat(["a", "b", "c"], 10), **arrays[name])
    data: dict[str, Any] = {"name": str(path)}
    if name == "gpt2":
        data["next_token"] = True
    elif name == "bert":
        data["vocabulary"] = VOCABULARY
    given: dict[str, Any] = {
        "data": data,
        "model": MODELS[name],
        "partition": {"name": "natural_id", "num_owners": 3},
        "algorithm": {"name": "splitfed_v1", "cut": 1},
        "training": {"rounds": 2, "batch_size": 6, "optimizer": {"name": "adam", "lr": 0.01}},
        "cluster": "local",
    }
    if name == "gpt2":
        given["task"] = "language_model"
    return {**given, **changes}
