"""A model that a Python program gives as an object: a class, a function, or a module with its weights."""

from __future__ import annotations

import copy
import inspect
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class GivenModel:
    """Travels to every party inside a `ModelSpec`; equal to its copies, and to nothing else.

    Attributes:
        value: a module, whose weights are the start, or whatever returns a module.
    """

    value: nn.Module | Callable[..., nn.Module] = field(compare=False, repr=False)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def build(self, about_data: Mapping[str, Any], options: Mapping[str, Any]) -> nn.Module:
        """A new module. Raises ``ValueError`` for options where a module is given, and for what makes no module."""
        if not isinstance(self.value, nn.Module):
            return called(self.value, self.value.__qualname__, about_data, options)
        if options:
            raise ValueError(
                f"the model was given as a module, which is there already; leave out its options {', '.join(options)}, "
                f"or give its class"
            )
        return copy.deepcopy(self.value)


def called(
    build: Callable[..., Any], source: str, about_data: Mapping[str, Any], options: Mapping[str, Any]
) -> nn.Module:
    """What a class or function makes; of what is known about the data it gets what its signature takes."""
    parameters = inspect.signature(build).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    asked_for = {*parameters, *(("input_shape", "num_classes") if takes_any else ())}
    if not about_data["input_shape"]:
        if "input_shape" in parameters and parameters["input_shape"].default is inspect.Parameter.empty:
            raise ValueError(
                f"model {source!r} takes one input_shape and the data have the inputs "
                f"{', '.join(about_data['inputs'])} of their own shapes; let it take inputs, which says the type and "
                f"shape of each, instead"
            )
        asked_for.discard("input_shape")
    model = build(**{key: value for key, value in about_data.items() if key in asked_for} | dict(options))
    if not isinstance(model, nn.Module):
        raise ValueError(f"model {source!r} made a {type(model).__name__}; it must return a torch.nn.Module")
    return model
