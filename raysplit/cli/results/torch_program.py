"""Export a trained model as a program that needs only torch (`torch.export`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raysplit.config.build import build
from raysplit.config.run import load_recorded


def program_of(folder: Path, state: Mapping[str, Tensor]) -> Any:
    """Export the model of a run with the weights ``state``, for batches [B, ...] of transformed samples, any B.

    The program takes a single input by position, and several inputs by name.
    """
    spec = build(load_recorded(folder)).setting.spec
    model = spec.build().eval()
    model.load_state_dict(dict(state))
    example, of_any_size = spec.example(2), {0: torch.export.Dim("batch")}
    if isinstance(example, Tensor):
        return torch.export.export(model, (example,), dynamic_shapes=(of_any_size,))
    sizes = dict.fromkeys(example, of_any_size)
    return torch.export.export(model, (), dict(example), dynamic_shapes=sizes)
