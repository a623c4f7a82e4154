"""Measurement of the times of backbone and heads on this machine, for one image at a time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from raysplit.models.classifier.heads import MultiTaskClassifier
from raysplit.seeding import torch_generator
from raysplit.serving.cost.deployments import Times


def measure_times(model: MultiTaskClassifier, image_size: int, *, server_speedup: float, repeats: int = 5) -> Times:
    """Measure the median seconds of `repeats` passes for one image.

    Args:
        model: model to measure.
        image_size: height and width of the image.
        server_speedup: assumed speed of the server relative to this machine.
        repeats: number of measured passes.
    """
    model.eval()
    picture = torch.rand(1, 3, image_size, image_size, generator=torch_generator(0, "measured picture"))
    with torch.inference_mode():
        z = model.features(picture)
        backbone_s = _median_s(lambda: model.features(picture), repeats)
        heads_s = tuple(_median_s(lambda head=head: head(z), repeats) for head in model.heads.values())  # type: ignore[misc]
    return Times(
        edge_backbone_s=backbone_s,
        edge_heads_s=heads_s,
        server_backbone_s=backbone_s / server_speedup,
        server_heads_s=tuple(head_s / server_speedup for head_s in heads_s),
    )


def _median_s(work: Callable[[], object], repeats: int) -> float:
    work()  # the first pass allocates memory
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
