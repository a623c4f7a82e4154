"""A classifier of several tasks, with a shared backbone and one head per task.

Capogrosso, Fraccaroli, Chakraborty, Fummi, Cristani, "MTL-Split: Multi-Task Learning for Edge Devices using Split
Computing" (2024, arXiv 2407.05982). The backbone stays on the edge device, its flattened output Z_b alone is
transmitted, and the heads may be anywhere. A single-task network is the same with one head.

Head of task j: Linear(Z_b -> H), Dropout, ReLU, Linear(H -> K_j); dropout comes before the ReLU, the output is logits.
The cut "pooled", which is not in the paper, sends the mean of every channel: Z_b = C, s * s times fewer features.
"""

from __future__ import annotations

import itertools
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from raysplit.models.classifier.fan_out import fan_out as fan_out
from raysplit.models.classifier.fan_out import in_order as in_order
from raysplit.registry import one_of
from raysplit.seeding import derive

BACKBONE = "mobilenet_v3_small"
HIDDEN = 256
DROPOUT = 0.1

OF_HEADS = ("classification", "multi_label", "regression")
"""The kinds of tasks that a head answers: one row of numbers for each sample."""

FeatureCut = Literal["flat", "pooled"]
FEATURE_CUTS: Mapping[FeatureCut, Callable[[Tensor], Tensor]] = {
    "flat": lambda z: z.flatten(1),  # [B, C, s, s] -> [B, C * s * s]
    "pooled": lambda z: z.mean((2, 3)),  # [B, C, s, s] -> [B, C]
}


@dataclass(frozen=True, kw_only=True)
class BackboneKind:
    """A backbone and the names of its weights in a checkpoint of the whole torchvision network.

    `build` returns the convolutional trunk with new random weights. `prefix` precedes the trunk's own parameter names
    in such a checkpoint.
    """

    build: Callable[[], nn.Module]
    out_channels: int
    prefix: str


def _torchvision() -> Any:
    return pkgutil.resolve_name("torchvision.models")  # imported late, because it takes a second


def _vgg(layout: str, *, batch_norm: bool) -> nn.Sequential:
    """Build the convolutions of a VGG as torchvision does, without its 119 million other weights."""
    vgg = _torchvision().vgg
    features: nn.Sequential = vgg.make_layers(vgg.cfgs[layout], batch_norm=batch_norm)
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return features


def _resnet18() -> nn.Sequential:
    whole = _torchvision().resnet18()
    trunk = [(name, part) for name, part in whole.named_children() if name not in ("avgpool", "fc")]
    network = nn.Sequential()
    for name, part in trunk:
        network.add_module(name, part)
    return network


def _small(*, torch_init: bool = False) -> nn.Sequential:
    """Build four 3x3 convolutions of stride 2 (16, 32, 64, 128 channels) with ReLU, a backbone for tests.

    The initial weights are He's, or with ``torch_init`` those that torch's layers draw by themselves.
    """
    widths = (3, 16, 32, 64, 128)
    layers: list[nn.Module] = []
    for narrow, wide in itertools.pairwise(widths):
        convolution = nn.Conv2d(narrow, wide, kernel_size=3, stride=2, padding=1)
        if not torch_init:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")  # torch's default leaves it at chance
        layers += [convolution, nn.ReLU()]
    return nn.Sequential(*layers)


BACKBONES: Mapping[str, BackboneKind] = {
    "vgg16": BackboneKind(build=lambda: _vgg("D", batch_norm=False), out_channels=512, prefix="features."),
    "vgg16_bn": BackboneKind(build=lambda: _vgg("D", batch_norm=True), out_channels=512, prefix="features."),
    "resnet18": BackboneKind(build=_resnet18, out_channels=512, prefix=""),
    "mobilenet_v3_small": BackboneKind(
        build=lambda: _torchvision().mobilenet_v3_small().features, out_channels=576, prefix="features."
    ),
    "efficientnet_b0": BackboneKind(
        build=lambda: _torchvision().efficientnet_b0().features, out_channels=1280, prefix="features."
    ),
    "small": BackboneKind(build=_small, out_channels=128, prefix=""),
    "small_torch_init": BackboneKind(build=partial(_small, torch_init=True), out_channels=128, prefix=""),
}


def backbone_kind(name: str) -> BackboneKind:
    """Return the backbone of this name. Raises ValueError, with the known names, for another."""
    return BACKBONES[one_of("backbone", name, sorted(BACKBONES))]


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def num_features(backbone: nn.Module, image_size: int, cut: FeatureCut = "flat") -> int:
    """Return Z_b, the number of features of one picture (3, image_size, image_size), without computing any."""
    on_meta = {name: value.to("meta") for name, value in [*backbone.named_parameters(), *backbone.named_buffers()]}
    images = torch.empty(
        2, 3, image_size, image_size, device="meta"
    )  # two: batch norm in training refuses 1 x C x 1 x 1
    try:
        features: Tensor = functional_call(backbone, on_meta, (images,))
    except RuntimeError as error:
        raise ValueError(
            f"images of {image_size} x {image_size} are too small for this backbone: {error}; raise image_size"
        ) from error
    return FEATURE_CUTS[cut](features).shape[1]


def task_head(features: int, num_classes: int, *, hidden: int = HIDDEN, dropout: float = DROPOUT) -> nn.Sequential:
    """Build a head from Z_b [B, features] to logits [B, K]."""
    return nn.Sequential(nn.Linear(features, hidden), nn.Dropout(dropout), nn.ReLU(), nn.Linear(hidden, num_classes))


def check_task_name(task: str) -> None:
    """Raise ValueError for a task name that cannot be a key of `nn.ModuleDict`, because torch uses it."""
    if not task or "." in task or hasattr(nn.ModuleDict, task):
        free = task.replace(".", "_") + "_task"
        raise ValueError(f"a task cannot be called {task!r}, torch needs that name; call it for example {free!r}")


def _still_if_frozen(backbone: nn.Module) -> None:
    """Keep a frozen backbone in evaluation mode, so that its batch-norm statistics do not drift."""
    if not any(p.requires_grad for p in backbone.parameters()):
        backbone.eval()


class Trunk(nn.Module):
    """The part of a classifier on the edge device: images [B, 3, S, S] -> Z_b [B, Z_b]."""

    def __init__(self, backbone: nn.Module, cut: FeatureCut) -> None:
        super().__init__()
        self.backbone, self.cut = backbone, cut

    def forward(self, x: Tensor) -> Tensor:
        return FEATURE_CUTS[self.cut](self.backbone(x))

    def train(self, mode: bool = True) -> Trunk:
        super().train(mode)
        _still_if_frozen(self.backbone)
        return self


class Heads(nn.Module):
    """Some heads of a classifier: Z_b [B, Z_b], or one copy per head, -> {task: logits [B, K_task]}.

    With one copy per head, the gradients of the tasks are separate instead of summed.
    """

    def __init__(self, heads: nn.ModuleDict) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, *z: Tensor) -> dict[str, Tensor]:
        copies = z if len(z) == len(self.heads) else fan_out(z[0], len(self.heads))
        return {task: head(own) for (task, head), own in zip(self.heads.items(), copies, strict=True)}


class MultiTaskClassifier(nn.Module):
    """A backbone with one head per task: images [B, 3, S, S] -> {task: logits [B, K_task]}."""

    def __init__(self, backbone: nn.Module, heads: nn.ModuleDict, cut: FeatureCut = "flat") -> None:
        super().__init__()
        if not heads:
            raise ValueError("a multi-task classifier needs at least one head, got none; name a task and its classes")
        self.backbone = backbone
        self.heads = heads
        self.cut = cut

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.heads)

    def trunk(self) -> Trunk:
        """Return the part on the edge device, which shares its weights with this model."""
        return Trunk(self.backbone, self.cut)

    def features(self, x: Tensor) -> Tensor:
        """Return the features [B, Z_b] that cross the link."""
        return FEATURE_CUTS[self.cut](self.backbone(x))

    def answer(self, z: Tensor, tasks: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Return the logits of `tasks`, by default all, from Z_b. Raises ValueError for an unknown task."""
        chosen = self.tasks if tasks is None else tuple(tasks)
        unknown = [task for task in chosen if task not in self.heads]
        if unknown:
            raise ValueError(f"unknown task {unknown[0]!r}; this model has {', '.join(self.tasks)}")
        copies = fan_out(z, len(chosen))
        return {task: self.heads[task](own) for task, own in zip(chosen, copies, strict=True)}

    def forward(self, x: Tensor, tasks: Iterable[str] | None = None) -> dict[str, Tensor]:
        return self.answer(self.features(x), tasks)

    def train(self, mode: bool = True) -> MultiTaskClassifier:
        super().train(mode)
        _still_if_frozen(self.backbone)
        return self


def build_classifier(
    backbone: str,
    classes: Mapping[str, int],
    *,
    image_size: int,
    seed: int,
    hidden: int = HIDDEN,
    cut: FeatureCut = "flat",
    kinds: Mapping[str, str] = MappingProxyType({}),
) -> MultiTaskClassifier:
    """Build a classifier with random weights for `classes` = {task: number of classes}.

    A task whose kind in `kinds` is another has as many outputs instead: numbers to estimate, or labels.

    The backbone and each head draw from their own streams, so the single-task network of a task starts with the same
    weights as its part of the multi-task network. Raises ValueError for an unknown backbone, a task with fewer than 2
    classes and a task name that torch uses.
    """
    kind = backbone_kind(backbone)
    for task, count in classes.items():
        check_task_name(task)
        if count < 2 and kinds.get(task, "classification") == "classification":
            raise ValueError(f"task {task!r} has {count} classes; a classification task needs at least 2")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights", "backbone", backbone))
        trunk = kind.build()
        features = num_features(trunk, image_size, cut)
        heads = nn.ModuleDict()
        for task, count in classes.items():
            torch.manual_seed(derive(seed, "weights", "head", task))
            heads[task] = task_head(features, count, hidden=hidden)
    return MultiTaskClassifier(trunk, heads, cut)


def load_backbone(model: MultiTaskClassifier, backbone: str, path: Path) -> None:
    """Load pretrained weights from a local file into the backbone of a model.

    The file has the state dict of the whole torchvision network (as published) or of the trunk alone. Raises
    ValueError when a weight is missing or has another shape.
    """
    stored: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    prefix, own = backbone_kind(backbone).prefix, model.backbone.state_dict()
    missing = [name for name in own if prefix + name not in stored and name not in stored]
    if missing:
        raise ValueError(f"{path} has no weight {missing[0]!r} of {backbone}; give a state dict of that network")
    found = {name: stored[prefix + name] if prefix + name in stored else stored[name] for name in own}
    wrong = [name for name, value in found.items() if value.shape != own[name].shape]
    if wrong:
        shapes = f"{tuple(found[wrong[0]].shape)} instead of {tuple(own[wrong[0]].shape)}"
        raise ValueError(f"weight {wrong[0]!r} in {path} has shape {shapes}; give a state dict of {backbone}")
    model.backbone.load_state_dict(found)


def freeze_backbone(model: MultiTaskClassifier) -> None:
    """Freeze the weights and the batch-norm statistics of the backbone, so that the heads alone learn."""
    model.backbone.requires_grad_(False)
    model.train(model.training)
