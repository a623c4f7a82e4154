"""One tensor in the place of the record of outputs that models of other libraries return."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

_MAIN = ("logits", "out")
"""Entries of a record of outputs that are the main one: Hugging Face's, and that of torchvision's segmentation."""


def with_main_output(model: nn.Module) -> nn.Module:
    """Let a model return its main output alone; its class gets a subclass of the same name, its state stays."""
    base = type(model)

    @functools.wraps(base.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return main_output(base.forward(self, *args, **kwargs))

    model.__class__ = type(base.__name__, (base,), {"forward": forward, "__module__": base.__module__})
    return model


def main_output(outputs: Any) -> Any:
    """Return the entry ``logits``, else ``out``, else the first floating tensor; a tensor is returned as it is."""
    if isinstance(outputs, Tensor) or not isinstance(outputs, Mapping | tuple | list):
        return outputs
    named = outputs if isinstance(outputs, Mapping) else {}
    values = list(outputs.values()) if isinstance(outputs, Mapping) else list(outputs)
    wanted = [named[name] for name in _MAIN if name in named]
    return next((v for v in [*wanted, *values] if isinstance(v, Tensor) and v.is_floating_point()), outputs)


def require_package(package: str, extra: str, source: str) -> None:
    """Raise ``ValueError`` where a package that a source of models needs is not installed."""
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"models named {source}:... need the package {package}, which is not installed; "
            f"pip install 'raysplit[{extra}]'"
        )
