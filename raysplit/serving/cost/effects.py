"""What a smaller encoding of the features costs in accuracy.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982) send float32; here the same pictures are answered from the
features as they arrive in each encoding, beside the exact ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raysplit.models.classifier.heads import MultiTaskClassifier
from raysplit.models.classifier.losses import accuracy
from raysplit.serving.compression import Encoding, pack, unpack


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One encoding: mean payload bytes per picture; per task accuracy and share of answers that stay the same."""

    payload_bytes: float
    accuracy: Mapping[str, float]
    agreement: Mapping[str, float]


def encoding_effects(
    model: MultiTaskClassifier, x: Tensor, y: Mapping[str, Tensor], encodings: Sequence[Encoding]
) -> dict[Encoding, Effect]:
    """The effect of each encoding on pictures x [N, 3, S, S] (as the model takes them), each sent by itself."""
    model.eval()
    with torch.inference_mode():
        z = model.features(x)  # [N, Z_b]
        exact = {task: logits.argmax(1) for task, logits in model.answer(z).items()}
        effects = {}
        for encoding in encodings:
            packed = [pack(row, encoding) for row in z]
            arrived = torch.stack([unpack(each, encoding, (z.shape[1],)) for each in packed])
            logits = model.answer(arrived)
            effects[encoding] = Effect(
                payload_bytes=sum(len(each.payload) for each in packed) / len(packed),
                accuracy={task: accuracy(logits[task], y[task]) for task in logits},
                agreement={task: accuracy(logits[task], exact[task]) for task in logits},
            )
    return effects
