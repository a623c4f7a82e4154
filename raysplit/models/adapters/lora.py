"""Low-rank adapters: y = base(x) + (alpha / rank) * (drop(x) A') B', where the base is frozen.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021, arXiv 2106.09685). Adapters are put in place, so
that the names of the base stay: a layer ``PATH`` has the new weights ``PATH.lora_a`` [rank, in] and ``PATH.lora_b``
[out, rank]. B begins at zero, so that the adapted model is the base at first.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from raysplit.models.cutting.tracing import leaf
from raysplit.schedulers.rules import Rules
from raysplit.seeding import torch_generator

logger = logging.getLogger(__name__)

ALL_LINEAR: Literal["all-linear"] = "all-linear"


class LoraRules(Rules):
    """Low-rank adapters of linear layers, which are trained in place of the frozen model."""

    rank: int = Field(default=8, ge=1)
    """Rank of the adapters."""
    alpha: float = Field(default=16.0, gt=0)
    """Scale: adapters are multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability to drop an input of an adapter in training."""
    targets: tuple[str, ...] | Literal["all-linear"] = ALL_LINEAR
    """Layers to adapt: last parts of their names, such as ``[q_proj, v_proj]``, or ``all-linear``."""
    aggregate: Literal["separate", "ffa"] = "separate"
    """Averaging of adapters: ``separate`` averages A and B each, which is not the average of their products (the gap is
    reported as ``lora_gap``); ``ffa`` leaves A as drawn and trains B alone, which is exact (FFA-LoRA, Sun et al. 2024,
    arXiv 2403.12313)."""


class _Adapted(nn.Module):
    """The weights of an adapter, beside those of the layer."""

    lora_a: nn.Parameter
    lora_b: nn.Parameter

    def _adapt(self, num_in: int, num_out: int, rules: LoraRules, gen: torch.Generator) -> None:
        bound = math.sqrt(3.0) * nn.init.calculate_gain("leaky_relu", math.sqrt(5.0)) / math.sqrt(num_in)
        drawn = torch.rand(rules.rank, num_in, generator=gen) * (2 * bound) - bound  # Kaiming-uniform with a = sqrt(5)
        self.lora_a = nn.Parameter(drawn, requires_grad=rules.aggregate != "ffa")
        self.lora_b = nn.Parameter(torch.zeros(num_out, rules.rank))
        self.lora_drop = nn.Dropout(rules.dropout)
        self.lora_scale = rules.alpha / rules.rank

    def _adapter(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(self.lora_drop(x), self.lora_a), self.lora_b) * self.lora_scale


@leaf
class LoraLinear(_Adapted):
    """A linear layer with an adapter."""

    def __init__(self, layer: nn.Linear, rules: LoraRules, gen: torch.Generator) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self._adapt(layer.in_features, layer.out_features, rules, gen)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias) + self._adapter(x)


@leaf
class LoraConv1D(_Adapted):
    """The linear layer of GPT-2, whose weight is [in, out], with an adapter."""

    def __init__(self, layer: Any, rules: LoraRules, gen: torch.Generator) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        num_in, num_out = layer.weight.shape
        self._adapt(num_in, num_out, rules, gen)

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return rows.view(x.size()[:-1] + (self.weight.size(1),)) + self._adapter(x)


def adapt(model: nn.Module, rules: LoraRules, seed: int) -> nn.Module:
    """Put adapters into the layers that the rules name, in place, and return the model (an adapter for a bare layer).

    Raises:
        ValueError: no layer fits a target, or one cannot be adapted.
    """
    chosen = _targets(model, rules.targets)
    for path in chosen:
        layer = model.get_submodule(path)
        gen = torch_generator(seed, "lora", path)
        kind = LoraConv1D if _is_conv1d(layer) else LoraLinear
        new = kind(layer, rules, gen).to(layer.weight.dtype).train(layer.training)  # type: ignore[arg-type]
        if not path:
            return new
        model.set_submodule(path, new)
    return model


def adapters_of(model: nn.Module) -> dict[str, LoraLinear | LoraConv1D]:
    """Return the adapted layers of a model by name."""
    return {path: child for path, child in model.named_modules() if isinstance(child, LoraLinear | LoraConv1D)}


def _targets(model: nn.Module, targets: Sequence[str] | str) -> list[str]:
    layers = {path: child for path, child in model.named_modules() if _is_linear(child)}
    refused = {path: reason for path in layers if (reason := _refusal(model, path))}
    if targets == ALL_LINEAR:
        for path, reason in refused.items():
            logger.info("the layer %r gets no adapter: %s", path, reason)
        return _some([path for path in layers if path not in refused], model, targets)
    chosen: dict[str, None] = {}
    for target in targets:
        fitting = [path for path, _ in model.named_modules() if path == target or path.endswith(f".{target}")]
        if not fitting:
            raise ValueError(
                f"model.lora.targets names {target!r}, and no module of the model is called so; its linear layers are "
                f"{_listed(layers)}"
            )
        for path in fitting:
            kind = type(model.get_submodule(path)).__name__
            reason = refused.get(path) if path in layers else f"it is a {kind}, and adapters are for linear layers"
            if reason:
                raise ValueError(
                    f"model.lora.targets names {target!r}, and {path!r} cannot be adapted: {reason}; name other layers "
                    f"among {_listed([path for path in layers if path not in refused])}"
                )
            chosen[path] = None
    return _some(list(chosen), model, targets)


def _some(chosen: list[str], model: nn.Module, targets: Sequence[str] | str) -> list[str]:
    if not chosen:
        raise ValueError(
            f"model.lora.targets is {targets if isinstance(targets, str) else list(targets)}, and "
            f"{type(model).__name__} has no linear layer that can be adapted; leave model.lora out, and use model.train"
        )
    return chosen


def _is_conv1d(layer: nn.Module) -> bool:
    return type(layer).__name__ == "Conv1D" and type(layer).__module__.startswith("transformers.")


def _is_linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or _is_conv1d(layer)


def _refusal(model: nn.Module, path: str) -> str | None:
    """Return why a linear layer cannot be adapted; None where it can."""
    layer = model.get_submodule(path)
    names = [name for name, p in model.named_parameters(remove_duplicate=False) if p is layer.weight]
    if len(names) > 1:
        other = next(name for name in names if name != f"{path}.weight".lstrip("."))
        return f"its weight is tied to {other!r}, which merging would change"
    if isinstance(layer, nn.Linear) and type(layer).forward is not nn.Linear.forward:
        return f"its class {type(layer).__name__} has a forward of its own"
    parent_path = path.rpartition(".")[0]
    parent = model.get_submodule(parent_path)
    if path and isinstance(parent, nn.MultiheadAttention | nn.TransformerEncoderLayer):
        return f"torch's {type(parent).__name__} uses its weight without calling it"
    return None


def _listed(paths: Any) -> str:
    names = list(paths)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
