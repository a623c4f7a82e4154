"""A model that a Python program passes as an object: a class, a function, or a module with its weights."""

from __future__ import annotations

import copy
import inspect
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from raysplit.data.failures import call_own


@dataclass(frozen=True)
class GivenModel:
    """A model object inside a `ModelSpec`, which every party receives; it equals its own copies alone.

    Attributes:
        value: a module, whose weights are the initial ones, or a callable that returns a module.
        token: identifier that copies share.
    """

    value: nn.Module | Callable[..., nn.Module] = field(compare=False, repr=False)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def build(self, about_data: Mapping[str, Any], options: Mapping[str, Any]) -> nn.Module:
        """Build a new module.

        Raises ``ValueError`` for options of a module, and for a callable that returns no module.
        """
        if not isinstance(self.value, nn.Module):
            return called(self.value, self.value.__qualname__, about_data, options)
        if options:
            raise ValueError(
                f"the model was given as a module, which takes no options, and has the options {', '.join(options)}; "
                f"leave them out, or give the class of the module"
            )
        return copy.deepcopy(self.value)


def called(
    build: Callable[..., Any], source: str, about_data: Mapping[str, Any], options: Mapping[str, Any]
) -> nn.Module:
    """Call a class or function with the options and with those facts about the data that its signature takes.

    Raises ``ValueError`` for a callable that needs one input_shape where there is none, or returns no module.
    """
    parameters = inspect.signature(build).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    asked_for = {*parameters, *(("input_shape", "num_classes") if takes_any else ())}
    if not about_data["input_shape"]:
        if "input_shape" in parameters and parameters["input_shape"].default is inspect.Parameter.empty:
            raise ValueError(
                f"model {source!r} takes one input_shape and the data have the inputs "
                f"{', '.join(about_data['inputs'])}, each with its own shape; let it take the argument inputs instead, "
                f"the type and shape of each input by name"
            )
        asked_for.discard("input_shape")
    given = {key: value for key, value in about_data.items() if key in asked_for} | dict(options)
    try:
        inspect.signature(build).bind(**given)
    except TypeError as error:
        raise ValueError(f"model {source!r}: {error}; it takes {inspect.signature(build)}") from error
    model = call_own("model", source, build, **given)
    if not isinstance(model, nn.Module):
        raise ValueError(f"model {source!r} made a {type(model).__name__}; it must return a torch.nn.Module")
    return model
