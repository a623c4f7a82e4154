"""The multi-task classifier as a model that a configuration can name.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982): backbones from scratch, pretrained, or pretrained and frozen.
"""

from __future__ import annotations

from pathlib import Path

import torch

from raysplit.models.classifier.heads import (
    BACKBONE,
    FEATURE_CUTS,
    HIDDEN,
    FeatureCut,
    MultiTaskClassifier,
    build_classifier,
    freeze_backbone,
    load_backbone,
)
from raysplit.options import Count, PathText

Kinds = tuple[tuple[str, str], ...]
Classes = tuple[tuple[str, tuple[str, ...]], ...]


def multi_task(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    classes: Classes = (),
    kinds: Kinds = (),
    backbone: str = BACKBONE,
    hidden: Count = HIDDEN,
    cut: FeatureCut = "flat",
    weights: PathText | None = None,
    frozen: bool = False,
) -> MultiTaskClassifier:
    """Build a multi-task classifier, with initial weights from torch's seed.

    Args:
        input_shape: shape of one picture, (3, S, S).
        num_classes: ignored, since every task has its own number of classes.
        classes: names of the classes, or else of the outputs, of each task, which come from the data set.
        kinds: kinds of the tasks that are no classifications.
        backbone: name of the backbone, one of `heads.BACKBONES`.
        hidden: width of the hidden layer of each head.
        cut: features that cross the cut, "flat" for all of them or "pooled" for the mean of every channel.
        weights: file with pretrained weights of the backbone; without it the backbone starts from scratch.
        frozen: keep the pretrained backbone fixed and train the heads alone.

    Raises:
        ValueError: for pictures that are not square RGB, an unknown name, and a frozen backbone without weights.
    """
    if len(input_shape) != 3 or input_shape[0] != 3 or input_shape[1] != input_shape[2]:
        raise ValueError(f"a multi-task classifier takes square pictures of 3 channels, got shape {input_shape}")
    if cut not in FEATURE_CUTS:
        raise ValueError(f"unknown cut {cut!r}; choose {' or '.join(FEATURE_CUTS)}")
    if frozen and weights is None:
        raise ValueError(
            "a frozen backbone without weights would stay random; give model.weights or leave model.frozen out"
        )
    counts = {task: len(names) for task, names in classes}
    size, seed = input_shape[1], torch.initial_seed()
    model = build_classifier(backbone, counts, image_size=size, seed=seed, hidden=hidden, cut=cut, kinds=dict(kinds))
    if weights is not None:
        load_backbone(model, backbone, Path(weights))
    if frozen:
        freeze_backbone(model)
    return model
