"""A model that a Python program passes as an object: a class, a function, or a module with its weights."""

from __future__ import annotations

import copy
import inspect
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from raysplit.data.failures import call_own

logger = logging.getLogger(__name__)


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


def check_built(model: nn.Module, name: str, dtype_name: str, dtype: torch.dtype) -> None:
    """Check a new model, whose weights are to become of this type.

    Raises ``ValueError`` for weights of another type than the run's, and for hooks at weights.
    """
    _refuse_own_dtype(model, name, dtype_name, dtype)
    _refuse_hooks(model, name)
    _say_converted_buffers(model, name, dtype_name)


def _refuse_own_dtype(model: nn.Module, name: str, dtype_name: str, dtype: torch.dtype) -> None:
    """Raise ``ValueError`` for a weight that the model has converted itself to another type than the run's."""
    accepted = (torch.get_default_dtype(), dtype)
    for key, parameter in model.named_parameters():
        if parameter.is_floating_point() and parameter.dtype not in accepted:
            own = str(parameter.dtype).removeprefix("torch.")
            raise ValueError(
                f"the model {name!r} makes its weight {key!r} {own} itself, and model.dtype is {dtype_name}, to "
                f"which all weights would be converted; leave the conversion out of the model"
                + (f", or set model.dtype to {own}" if own == "float64" else "")
            )


def _say_converted_buffers(model: nn.Module, name: str, dtype_name: str) -> None:
    """Warn of buffers that the model has made in half precision, and that get the type of the run."""
    for key, buffer in model.named_buffers():
        if buffer.dtype in (torch.float16, torch.bfloat16):
            own = str(buffer.dtype).removeprefix("torch.")
            logger.warning("the buffer %r of the model %r is %s and becomes %s", key, name, own, dtype_name)


def _refuse_hooks(model: nn.Module, name: str) -> None:
    """Raise ``ValueError`` for a hook at a weight, which is lost where the model is copied for a party."""
    for key, parameter in model.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            raise ValueError(
                f"the model {name!r} has a hook at its weight {key!r}, which torch does not copy, so that it "
                f"would be without effect; change the gradient in forward, by a torch.autograd.Function"
            )
