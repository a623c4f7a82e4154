"""Optimizers by configuration: any class of ``torch.optim``, by its name in lower case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

from raysplit.registry import one_of


@cache
def _classes() -> dict[str, type[torch.optim.Optimizer]]:
    found = (getattr(torch.optim, name) for name in dir(torch.optim))
    return {
        c.__name__.lower(): c
        for c in found
        if isinstance(c, type) and issubclass(c, torch.optim.Optimizer) and c is not torch.optim.Optimizer
    }


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """An optimizer and its arguments.

    Attributes:
        name: name of a class of ``torch.optim``, in lower case.
        lr: learning rate.
        options: further arguments, such as ``momentum`` and ``weight_decay``.

    Raises:
        ValueError: for an unknown name, a negative learning rate, or arguments that the class does not take.
    """

    name: str = "sgd"
    lr: float = 0.01
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        one_of("optimizer", self.name, sorted(_classes()))
        if not self.lr >= 0:
            raise ValueError(f"a learning rate must be at least 0, got {self.lr}")
        if self.options:  # wrong ones fail here, not in a remote process; torch's first optimizer takes a second
            self.build([torch.zeros(1, requires_grad=True)])

    def build(self, parameters: Iterable[torch.Tensor]) -> torch.optim.Optimizer | None:
        """Build the optimizer for these parameters; None if none of them requires a gradient."""
        trained = [p for p in parameters if p.requires_grad]
        if not trained:
            return None
        try:
            return _classes()[self.name](trained, lr=self.lr, **self.options)  # type: ignore[call-arg]
        except (TypeError, LookupError, RuntimeError, AttributeError) as error:
            raise ValueError(
                f"optimizer {self.name} does not take {dict(self.options)}: {error}; see torch.optim for its arguments"
            ) from error
