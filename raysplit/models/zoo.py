"""Models by name: the networks of the papers, those of other libraries, and any callable by its import path."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from raysplit.data.inputs import UNNAMED, Input, described
from raysplit.models.classifier.build import multi_task
from raysplit.models.dense.net import mas
from raysplit.models.given_model import called
from raysplit.models.nets import deep_nets, sequence_nets, small_nets
from raysplit.models.nets.unet import unet
from raysplit.models.sources import hugging_face, timm_models, torchvision_models
from raysplit.options import checked_options
from raysplit.registry import IMPORT_PATH, imported, known, unknown

Builder = Callable[..., nn.Module]

BUILDERS: Mapping[str, Builder] = {
    "mlp": small_nets.mlp,
    "mlp_small": small_nets.mlp_small,
    "mlp_28": small_nets.mlp_28,
    "cnn8": small_nets.cnn8,
    "cnn": small_nets.cnn,
    "cnn4": small_nets.cnn4,
    "cnn_cifar": small_nets.cnn_cifar,
    "cnn1d": sequence_nets.cnn1d,
    "lstm": sequence_nets.lstm,
    "text_transformer": sequence_nets.text_transformer,
    "resnet18_cifar": deep_nets.resnet18_cifar,
    "resnet101_mpsl": deep_nets.resnet101_mpsl,
    "vgg19_mpsl": deep_nets.vgg19_mpsl,
    "unet": unet,
    "mas": mas,
    "multi_task": multi_task,
}
_FROM_DATA = ("input_shape", "num_classes", "classes", "kinds", "tasks", "vocab_size")
"""Parameters of builders that the data set gives; ``model.tasks`` chooses among its tasks."""
OF_TOKENS = ("text_transformer",)
"""Networks that take tokens."""
SOURCES = {"torchvision": torchvision_models, "timm": timm_models, "hf": hugging_face}
"""Libraries by the word in front of the colon, as in ``timm:vit_tiny_patch16_224``."""


def model_names() -> list[str]:
    """Return the names that `build_model` knows: those of this package, then torchvision's in alphabetical order."""
    return [*BUILDERS, *torchvision_models.classifiers()]


def known_model(name: str) -> str:
    """Return a name of `model_names` or an import path. Raises ``ValueError``, with the closest name, for another."""
    source, _, rest = name.partition(":")
    if source in SOURCES and rest:
        SOURCES[source].require()
        return name
    return name if name in BUILDERS else known("model", name, model_names())


def build_model(
    name: str,
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    data_inputs: Mapping[str, Input] | None = None,
    data_sizes: Mapping[str, Any] | None = None,
    **options: Any,
) -> nn.Module:
    """Build a model with new weights, drawn from torch's global random stream (seed it before).

    Args:
        name: one of `model_names`; ``torchvision:NAME``, ``timm:NAME``, ``hf:CLASS`` or ``hf:FOLDER``; or an import
            path ``package.module:name``. Such a callable gets the options, and
            ``input_shape``, ``num_classes`` and ``inputs`` if its signature takes them.
        input_shape: shape of one sample, without the batch dimension; empty where there is no single input of a fixed
            shape, which only models by import path take.
        num_classes: number of classes.
        data_inputs: records of the inputs of the data set by name, which a callable gets as ``inputs``; by default one
            unnamed floating input.
        data_sizes: further sizes of the data by the name of the parameter that takes them, such as ``vocab_size``.
        options: further arguments of the network, such as ``hidden=(64, 32)`` of `mlp`.

    Raises:
        ValueError: for an unknown name, option or import path, and for inputs that the model does not take.

    Example:
        >>> model = build_model("mlp", input_shape=(1, 8, 8), num_classes=10, hidden=(64, 32))
        >>> model(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    inputs, input_shape = described(data_inputs or {}, input_shape)
    source, _, rest = name.partition(":")
    if source in SOURCES and rest:
        model: nn.Module = SOURCES[source].build(rest, input_shape, num_classes, options, data_sizes)
        return model
    if ":" in name:
        about_data = {"input_shape": input_shape, "num_classes": num_classes, "inputs": inputs, **(data_sizes or {})}
        return _from_import_path(name, about_data, options)
    if name in OF_TOKENS:
        return _of_tokens(name, inputs, input_shape, num_classes, data_sizes or {}, options)
    if not input_shape or any(not entry.dtype.is_floating_point for entry in inputs.values()):
        kinds = ", ".join(f"{key} ({entry.dtype}, {entry.shape})" for key, entry in inputs.items())
        raise ValueError(
            f"model {name!r} takes one floating input of a fixed shape and the data have {kinds}; "
            f'name a model that takes them by its import path "package.module:callable"'
        )
    if name in BUILDERS:
        accepted = inspect.signature(BUILDERS[name]).parameters.keys() - {"input_shape", "num_classes"}
        if others := options.keys() - accepted:
            raise ValueError(f"{name} has no option {sorted(others)}; it takes {sorted(accepted) or 'none'}")
        return BUILDERS[name](input_shape, num_classes, **options)
    if name in torchvision_models.classifiers():
        return torchvision_models.classifier(name, input_shape, num_classes, options)
    raise ValueError(unknown("model", name, [*model_names(), IMPORT_PATH]))


def checked_model_options(name: str, options: Mapping[str, Any], section: str = "model") -> dict[str, Any]:
    """Return the options of a model in the types of its builder; those of other models stay as they are.

    Raises `OptionsRefused` for an option that is unknown or of another type.
    """
    if name not in BUILDERS:
        return dict(options)
    by_data = {key: value for key, value in options.items() if key == "tasks" and name == "multi_task"}
    own = {key: value for key, value in options.items() if key not in by_data}
    return by_data | checked_options(BUILDERS[name], own, name=name, section=section, given=_FROM_DATA)


def _of_tokens(
    name: str,
    inputs: Mapping[str, Input],
    input_shape: tuple[int, ...],
    num_classes: int,
    sizes: Mapping[str, Any],
    options: Mapping[str, Any],
) -> nn.Module:
    """Build a model that takes one input of tokens [T]."""
    (first, entry), *others = inputs.items()
    if others or entry.dtype != torch.int64 or len(entry.shape) != 1 or "vocab_size" not in sizes:
        kinds = ", ".join(f"{key} ({entry.dtype}, {entry.shape})" for key, entry in inputs.items())
        raise ValueError(
            f"model {name!r} takes one input of tokens [T] with a vocabulary, and the data have {kinds}; take text or "
            f"an .npz file with ids (data.mask: false leaves the mask out), or another model"
        )
    if first != UNNAMED:
        raise ValueError(
            f"model {name!r} takes one unnamed input and the data name theirs {first!r}; call the array x, with "
            f"data.values: ids"
        )
    return BUILDERS[name](input_shape, num_classes, vocab_size=sizes["vocab_size"], **options)


def _from_import_path(path: str, about_data: Mapping[str, Any], options: Mapping[str, Any]) -> nn.Module:
    found = imported("model", path)
    if isinstance(found, type) and not issubclass(found, nn.Module):
        raise ValueError(
            f"model {path!r} must be a function or a subclass of torch.nn.Module, got the class {found.__qualname__}"
        )
    return called(found, path, about_data, options)
