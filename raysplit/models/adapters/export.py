"""Adapters in the layout of peft's files, and merged into the base.

A folder that ``peft.PeftModel.from_pretrained(base, folder)`` loads has ``adapter_config.json`` and
``adapter_model.safetensors``, whose names are ``base_model.model.PATH.lora_A.weight`` and so on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from raysplit.models.adapters.lora import LoraConv1D, LoraRules, adapters_of
from raysplit.models.adapters.weights import write_weights
from raysplit.models.spec import ModelSpec

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."


def write_adapter(spec: ModelSpec, state: Mapping[str, Tensor], folder: Path) -> int:
    """Write the adapters of a trained state, and what else was trained, to a folder; return the numbers written.

    Raises:
        ValueError: for a model without adapters, and where a part of a module is trained that has no adapter, for which
            peft's layout has no place.
    """
    rules, model = _rules(spec), spec.build()
    layers = adapters_of(model)
    tensors = {
        f"{_PREFIX}{path}.lora_{name}.weight": state[f"{path}.lora_{factor}"]
        for path in layers
        for factor, name in (("a", "A"), ("b", "B"))
    }
    more = [name for name, p in model.named_parameters() if p.requires_grad and name.rpartition(".")[0] not in layers]
    saved = sorted({name.rpartition(".")[0] for name in more})
    for path in saved:
        own = [f"{path}.{name}".lstrip(".") for name, _ in model.get_submodule(path).named_parameters()]
        if left := [name for name in own if name not in more]:
            raise ValueError(
                f"{path!r} is trained without {left[0]!r}, and peft's files hold whole modules beside the adapters; "
                f"export with --merge instead"
            )
    tensors |= {f"{_PREFIX}{name}": state[name] for name in more}
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(tensors, folder / WEIGHTS)
    of_base = spec.tuning.weights.path if spec.tuning.weights is not None else spec.name
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "base_model_name_or_path": of_base,
        "r": rules.rank,
        "lora_alpha": rules.alpha,
        "lora_dropout": rules.dropout,
        "target_modules": list(layers),
        "modules_to_save": saved or None,
        "fan_in_fan_out": any(isinstance(layer, LoraConv1D) for layer in layers.values()),
        "bias": "none",
        "task_type": None,
        "inference_mode": True,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return sum(value.numel() for value in tensors.values())


def merged(spec: ModelSpec, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of the model without adapters whose layers are W + alpha / rank * B A.

    Raises:
        ValueError: for a model without adapters.
    """
    rules, layers = _rules(spec), adapters_of(spec.build())
    found = {name: value for name, value in state.items() if name.rpartition(".")[2] not in ("lora_a", "lora_b")}
    for path, layer in layers.items():
        change = (rules.alpha / rules.rank) * (state[f"{path}.lora_b"] @ state[f"{path}.lora_a"])  # [out, in]
        found[f"{path}.weight"] = state[f"{path}.weight"] + (change.T if isinstance(layer, LoraConv1D) else change)
    return found


def _rules(spec: ModelSpec) -> LoraRules:
    if spec.tuning.lora is None:
        raise ValueError(f"the model {spec.name!r} was trained without model.lora, so it has no adapters to export")
    return spec.tuning.lora
