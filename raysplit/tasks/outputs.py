"""The tensor of a model's outputs that a loss is about, and the auxiliary ones beside it.

A model may return a tensor, a mapping, a named tuple, a dataclass or a tuple. The answer is the entry ``logits``, else
``out``, else the first floating one. Outputs named ``aux`` are second answers of torchvision's models, whose losses are
added in training (Zhao et al. 2016, arXiv 1612.01105; Szegedy et al. 2014 and 2015, arXiv 1409.4842 and 1512.00567).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

AUXILIARY = {"aux": 0.5, "aux_logits": 0.4, "aux_logits1": 0.3, "aux_logits2": 0.3}
"""Weight of the loss of an auxiliary output, by the name that torchvision's models give it."""

_ANSWERS = ("logits", "out")


def as_tensors(outputs: Any) -> Tensor | dict[str, Tensor]:
    """Return the outputs as one tensor, or as floating tensors by name.

    Raises:
        ValueError: nothing in them is a floating tensor.
    """
    if isinstance(outputs, Tensor):
        return outputs
    found = {name: value for name, value in _entries(outputs) if _is_floating(value)}
    if not found:
        raise ValueError(
            f"the model returns {type(outputs).__name__}, in which no entry is a floating tensor; let its forward "
            f"return the logits, or a mapping that has them as 'logits'"
        )
    return found


def _entries(outputs: Any) -> list[tuple[str, Any]]:
    if isinstance(outputs, Mapping):
        return [(str(name), value) for name, value in outputs.items()]
    if isinstance(outputs, tuple | list):
        names = getattr(outputs, "_fields", range(len(outputs)))
        return [(str(name), value) for name, value in zip(names, outputs, strict=True)]
    if is_dataclass(outputs):
        return [(entry.name, getattr(outputs, entry.name)) for entry in fields(outputs)]
    return []


def _is_floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def answer(outputs: Any) -> Tensor:
    """Return the tensor that the loss and the metrics are about. Raises ``ValueError`` as `as_tensors`."""
    found = as_tensors(outputs)
    if isinstance(found, Tensor):
        return found
    return next((found[name] for name in _ANSWERS if name in found), next(iter(found.values())))


def auxiliary(outputs: Any) -> list[tuple[float, Tensor]]:
    """Return the auxiliary outputs with the weights of their losses."""
    found = as_tensors(outputs)
    if isinstance(found, Tensor):
        return []
    return [(weight, found[name]) for name, weight in AUXILIARY.items() if name in found]
