"""Export a trained model as a program that needs only torch (`torch.export`)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raysplit.config.build import build
from raysplit.config.run import load_recorded


def program_of(folder: Path, state: Mapping[str, Tensor], *, label: str | None = None) -> Any:
    """Export the model of a run with the weights ``state``, for batches [B, ...] of transformed samples, any B.

    Of several models, ``label`` is that of the one whose weights these are. The program takes a single input by
    position, and several inputs by name. Raises ``ValueError`` for a model that torch.export cannot write as a program.
    """
    experiment = build(load_recorded(folder))
    spec = experiment.setting.spec if label is None else experiment.begin().spec_of(label)
    model = spec.build().eval()
    model.load_state_dict(dict(state))
    example, of_any_size = spec.example(2), {0: torch.export.Dim("batch")}
    by_name: dict[str, Any] = {} if isinstance(example, Tensor) else dict(example)
    sizes: Any = dict.fromkeys(by_name, of_any_size) if by_name else (of_any_size,)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # torch prints the graph where it fails
            return torch.export.export(model, () if by_name else (example,), by_name, dynamic_shapes=sizes)
    except Exception as error:  # torch raises many types, with pages of advice about its own inside
        why = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"torch.export cannot write {type(model).__name__} as a program ({why}); take a control flow that depends "
            f"on values out of its forward, or export the weights, to a file that ends in .pt"
        ) from error
