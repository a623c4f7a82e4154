"""The multi-task classifier as one of the models that a configuration can name.

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

Classes = tuple[tuple[str, tuple[str, ...]], ...]


def multi_task(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    classes: Classes = (),
    backbone: str = BACKBONE,
    hidden: int = HIDDEN,
    cut: FeatureCut = "flat",
    weights: str | None = None,
    frozen: bool = False,
) -> MultiTaskClassifier:
    """`build_classifier` by the name "multi_task"; weights from torch's seed, tasks and class names from the data.

    Three ways to begin: from scratch, from the backbone in the file `weights`, or with that backbone `frozen`, so
    that heads alone learn. Raises ValueError for pictures that are not square RGB and a frozen backbone from scratch.
    """
    if len(input_shape) != 3 or input_shape[0] != 3 or input_shape[1] != input_shape[2]:
        raise ValueError(f"a multi-task classifier takes square pictures of 3 channels, got shape {input_shape}")
    if cut not in FEATURE_CUTS:
        raise ValueError(f"unknown cut {cut!r}; choose {' or '.join(FEATURE_CUTS)}")
    if frozen and weights is None:
        raise ValueError("a frozen backbone would stay random; give pretrained weights (model.weights) or let it learn")
    counts = {task: len(names) for task, names in classes}
    size, seed = input_shape[1], torch.initial_seed()
    model = build_classifier(backbone, counts, image_size=size, seed=seed, hidden=hidden, cut=cut)
    if weights is not None:
        load_backbone(model, backbone, Path(weights))
    if frozen:
        freeze_backbone(model)
    return model
