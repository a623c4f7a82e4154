"""The all-in-one model of merge-and-split training, with one shared encoder and one decoder per task.

Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285: theta = {theta_s} and {theta_i : task i}. The encoder's gradient
is (1/sqrt n) * sum_i g_i, n being the number of decoders of the model. A group of tasks inherits the encoder and the
decoders of its tasks: `group_state`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from raysplit.models.dense.blocks import XceptionDecoder, xception_encoder
from raysplit.models.dense.losses import TASKS
from raysplit.models.dense.resnet import resnet18_encoder, staged_decoder
from raysplit.registry import resolve
from raysplit.seeding import derive


class EncoderBuilder(Protocol):
    """Signature of an encoder named by import path, whose output is smaller than the image by a power of two."""

    def __call__(self, *, in_channels: int, image_size: int, width: float) -> nn.Module: ...


class DecoderBuilder(Protocol):
    """Signature of a decoder named by import path, whose output has the size of the image."""

    def __call__(self, *, in_channels: int, out_channels: int, image_size: int, num_doublings: int) -> nn.Module: ...


ENCODERS: dict[str, EncoderBuilder] = {"xception": xception_encoder, "resnet18": resnet18_encoder}
DECODERS: dict[str, DecoderBuilder] = {"xception": XceptionDecoder, "staged": staged_decoder}


class _ScaleGradient(torch.autograd.Function):
    """An identity whose backward pass multiplies the gradient by `factor`."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def scale_gradient(z: Tensor, factor: float) -> Tensor:
    """Return `z`, whose gradient is multiplied by `factor`."""
    return cast(Tensor, _ScaleGradient.apply(z, factor))


class MultiTaskModel(nn.Module):
    """A model with an encoder shared by all tasks and one decoder per task, in the order of `decoders`."""

    def __init__(self, encoder: nn.Module, decoders: nn.ModuleDict) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoders = decoders

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks in their order."""
        return tuple(self.decoders)

    def leaves_out(self, name: str) -> bool:
        """Whether a weight is of another task, so that a file with the weights of a merged model may have it."""
        first, _, rest = name.partition(".")
        task = rest.partition(".")[0]
        return first == "decoders" and task in TASKS and task not in self.decoders

    def encode(self, x: Tensor) -> Tensor:
        """Encode images [B, C, S, S]; gradients passing back are divided by sqrt(number of tasks)."""
        return scale_gradient(self.encoder(x), 1 / math.sqrt(len(self.decoders)))

    def decode(self, z: Tensor, tasks: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Decode a representation to the output of each of `tasks`, by default all."""
        return {task: self.decoders[task](z) for task in (self.tasks if tasks is None else tasks)}

    def forward(self, x: Tensor, tasks: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Return the outputs [B, channels of the task, S, S] of `tasks`, by default all, for images [B, C, S, S]."""
        return self.decode(self.encode(x), tasks)


def encoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the part of a model's state that all tasks share, with the model's own names."""
    return {name: value for name, value in state.items() if name.startswith("encoder.")}


def decoder_state(state: Mapping[str, Tensor], task: str) -> dict[str, Tensor]:
    """Return the part of a model's state that belongs to `task` alone, with the model's own names."""
    return {name: value for name, value in state.items() if name.startswith(f"decoders.{task}.")}


def group_state(state: Mapping[str, Tensor], tasks: Iterable[str]) -> dict[str, Tensor]:
    """Return the state that a group inherits from the merged model: the encoder and the decoders of its tasks."""
    parts = [encoder_state(state), *(decoder_state(state, task) for task in tasks)]
    return {name: value for part in parts for name, value in part.items()}


def _initialize(module: nn.Module) -> None:
    """Draw convolutions from N(0, 2 / (kernel area * output channels)); the rest keeps torch's default."""
    for layer in module.modules():
        if type(layer) is nn.Conv2d:
            area = layer.kernel_size[0] * layer.kernel_size[1]
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / (area * layer.out_channels)))


def _num_doublings(encoder: nn.Module, in_channels: int, image_size: int) -> tuple[int, int]:
    """Return the channels of the representation, and the doublings from its size to that of the image."""
    training = encoder.training
    with torch.no_grad():
        _, channels, height, width = encoder.eval()(torch.zeros(1, in_channels, image_size, image_size)).shape
    encoder.train(training)
    doublings = round(math.log2(image_size / height))
    if height != width or height * 2**doublings != image_size:
        raise ValueError(
            f"the encoder turns {image_size}x{image_size} pixels into {height}x{width}, which is not the image divided "
            "by a power of two; choose another image_size"
        )
    return int(channels), doublings


def build_mas_model(
    tasks: tuple[str, ...],
    *,
    image_size: int,
    width: float = 1.0,
    encoder: str = "xception",
    decoder: str | None = None,
    in_channels: int = 3,
    seed: int = 0,
) -> MultiTaskModel:
    """Build the network for some tasks on square images.

    Args:
        tasks: letters of the tasks, keys of `raysplit.models.dense.losses.TASKS`.
        image_size: side of the images in pixels.
        width: capacity of the encoder; 0.5 has half the parameters.
        encoder: "xception", "resnet18" or the import path "package.module:name" of an `EncoderBuilder`.
        decoder: "xception", "staged" or the import path of a `DecoderBuilder`; by default "xception" for the encoder
            "xception", otherwise "staged".
        in_channels: channels of the images.
        seed: seed of the initial weights. Those of a decoder also depend on its task alone, so a task starts with the
            same weights in any set of tasks.

    Raises:
        ValueError: for unknown or repeated tasks, and for sizes that the encoder cannot halve.
    """
    unknown = [task for task in tasks if task not in TASKS]
    if not tasks or unknown or len(set(tasks)) != len(tasks):
        raise ValueError(f"tasks must be distinct letters of {''.join(TASKS)}, got {tasks}")
    build_encoder: EncoderBuilder = resolve("encoder", encoder, ENCODERS)
    name = decoder if decoder is not None else ("xception" if encoder == "xception" else "staged")
    build_decoder: DecoderBuilder = resolve("decoder", name, DECODERS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "encoder"))
        trunk = build_encoder(in_channels=in_channels, image_size=image_size, width=width)
        _initialize(trunk)
        channels, doublings = _num_doublings(trunk, in_channels, image_size)
        heads = nn.ModuleDict()
        for task in tasks:
            torch.manual_seed(derive(seed, "decoder", task))
            heads[task] = build_decoder(
                in_channels=channels,
                out_channels=TASKS[task].num_channels,
                image_size=image_size,
                num_doublings=doublings,
            )
            _initialize(heads[task])
    return MultiTaskModel(trunk, heads)


def mas(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    tasks: tuple[str, ...],
    width: float = 1.0,
    encoder: str = "xception",
    decoder: str | None = None,
) -> MultiTaskModel:
    """Build the model named "mas", see `build_mas_model`; the seed is torch's, sizes come from the data.

    `num_classes` is ignored, since every task has its own output channels.
    """
    channels, height, image_width = input_shape
    if height != image_width:
        raise ValueError(f"the network takes square images, got {height}x{image_width}; resize them")
    seed = torch.initial_seed()
    options = {"width": width, "encoder": encoder, "decoder": decoder, "in_channels": channels, "seed": seed}
    return build_mas_model(tuple(tasks), image_size=height, **options)  # type: ignore[arg-type]
