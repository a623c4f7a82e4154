"""Models of torchvision: every classifier by its bare name, and all models as ``torchvision:NAME``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from raysplit.models.sources.outputs import with_main_output
from raysplit.registry import unknown

_WITHOUT_EXTRA_HEADS = {"googlenet": {"init_weights": True}, "inception_v3": {"init_weights": True}}
"""Options of classifiers that by default return auxiliary outputs in training, for which there is no loss."""


def require() -> None:
    """Do nothing: torchvision is always there."""


def classifiers() -> list[str]:
    """Return the names of torchvision's image classifiers, in alphabetical order."""
    import torchvision  # imported here, because it takes a second

    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def classifier(name: str, input_shape: tuple[int, ...], num_classes: int, options: Mapping[str, Any]) -> nn.Module:
    """Build an image classifier with new weights. Raises ``ValueError`` for pictures that have not three channels."""
    if len(input_shape) != 3 or input_shape[0] != 3:
        raise ValueError(
            f"torchvision's {name} takes images of 3 channels, got input_shape {input_shape}; "
            "repeat the channel in the data set or take resnet18_cifar"
        )
    return build(name, input_shape, num_classes, options)


def build(
    name: str,
    input_shape: tuple[int, ...],
    num_classes: int,
    options: Mapping[str, Any],
    sizes: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build any model of torchvision with new weights.

    Raises ``ValueError`` for an unknown name and for options that the model does not take.
    """
    import torchvision

    names = torchvision.models.list_models()
    if name not in names:
        raise ValueError(unknown("torchvision model", name, names))
    taken = inspect.signature(torchvision.models.get_model_builder(name)).parameters
    without = {key: None for key in ("weights", "weights_backbone") if key in taken}
    extra = {"aux_logits": False, **_WITHOUT_EXTRA_HEADS[name]} if name in _WITHOUT_EXTRA_HEADS else {}
    try:
        model: nn.Module = torchvision.models.get_model(
            name, **{**without, "num_classes": num_classes, **extra, **options}
        )
    except (TypeError, ValueError, LookupError) as error:
        raise ValueError(f"torchvision's {name} does not take the options {dict(options)}: {error}") from error
    return with_main_output(model) if "weights_backbone" in without else model
