"""Models of timm (PyTorch Image Models), as ``timm:NAME``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from raysplit.models.sources.outputs import require_package
from raysplit.registry import unknown


def require() -> None:
    """Raise ``ValueError`` unless timm is installed."""
    require_package("timm", "timm", "timm")


def build(
    name: str,
    input_shape: tuple[int, ...],
    num_classes: int,
    options: Mapping[str, Any],
    sizes: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a model of timm with new weights.

    The number of channels and, where the model has a fixed one, the size of pictures come from the data. Raises
    ``ValueError`` for an unknown name and for options that the model does not take.
    """
    require()
    import timm

    create: Callable[..., nn.Module] = timm.create_model

    if not timm.is_model(name):
        raise ValueError(unknown("timm model", name, timm.list_models()))
    if "pretrained" in options:
        raise ValueError("models of timm get new weights, and model.pretrained would download some; leave it out")
    about: dict[str, Any] = {"num_classes": num_classes}
    if len(input_shape) == 3:
        about["in_chans"] = input_shape[0]
        sized = {**about, "img_size": input_shape[1:], **options}
        try:
            return create(name, pretrained=False, **sized)
        except TypeError:  # most models take pictures of any size
            pass
    try:
        return create(name, pretrained=False, **{**about, **options})
    except (TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"timm's {name} does not take the options {dict(options)}: {error}") from error
