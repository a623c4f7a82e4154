"""Random operators of an exported graph with streams of their own, and regions with other settings of torch.

The draw of an operator depends on the seed of the step and on its place in the model, neither on where the model is cut
nor on what else the process has drawn. Torch draws in some operators, such as attention with dropout, from the global
stream alone; that one is seeded for such a call, and is as before afterwards.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, nn

from raysplit.models.cutting.dropout import Keyed, SeededDropout, SteadyDropout, step_seed
from raysplit.seeding import derive, keyed_draws

_one_at_a_time = threading.RLock()
_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
_ATTENTION_DROPOUT = 4  # its position among the arguments


@torch.library.custom_op("raysplit::dropout", mutates_args=())
def dropout_mark(x: Tensor, path: str) -> Tensor:
    """Stand for the dropout module at this path while a model is exported."""
    return x.clone()


@dropout_mark.register_fake
def _(x: Tensor, path: str) -> Tensor:
    return torch.empty_like(x)


class DropoutMark(nn.Module):
    """A module in the place of a `SeededDropout` while a model is exported."""

    def __init__(self, seeded: SeededDropout) -> None:
        super().__init__()
        self.path = seeded.path
        self.p = seeded.p  # some models read it
        self.is_steady = isinstance(seeded, SteadyDropout)

    def forward(self, x: Tensor) -> Tensor:
        draws = self.p > 0 and (self.training or self.is_steady)
        return dropout_mark(x, self.path) if draws else x


class KeyedOperator(Keyed):
    """A random operator that draws from the stream ``(seed of the step, its path)``.

    Args:
        path: module that calls it, with the number of the operator within that module.
        operator: the operator of torch.

    Attributes:
        keeps_everything: whether dropout inside the operator is off, for comparisons.
    """

    def __init__(self, path: str, operator: Any) -> None:
        super().__init__()
        self.path = path
        self.operator = operator
        self.keeps_everything = False

    def keep_everything(self) -> None:
        self.keeps_everything = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.keeps_everything and self.operator is _ATTENTION:
            args = tuple(0.0 if number == _ATTENTION_DROPOUT else value for number, value in enumerate(args))
        seed = step_seed()
        if seed is None:
            return self.operator(*args, **kwargs)
        tensors = [value for value in args if isinstance(value, Tensor)]
        device = kwargs.get("device") or (tensors[0].device if tensors else "cpu")
        with _one_at_a_time, keyed_draws(derive(seed, self.path), device):
            return self.operator(*args, **kwargs)

    def extra_repr(self) -> str:
        return f"path={self.path!r}, operator={self.operator}"


def is_random(operator: Any) -> bool:
    """Whether torch says that an operator draws random numbers."""
    return torch.Tag.nondeterministic_seeded in getattr(operator, "tags", ())


def draws(operator: Any, args: tuple[Any, ...], kwargs: Any) -> bool:
    """Whether a call of a random operator draws: attention without dropout does not."""
    if operator is _ATTENTION:
        given = args[_ATTENTION_DROPOUT] if len(args) > _ATTENTION_DROPOUT else kwargs.get("dropout_p", 0.0)
        return bool(given)
    return is_random(operator)


class WithoutAutocast(nn.Module):
    """An operator that computes in the types of its arguments, also where the part computes in half precision."""

    def __init__(self, operator: Any, device_type: str) -> None:
        super().__init__()
        self.operator = operator
        self.device_type = device_type

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(self.device_type, enabled=False):
            return self.operator(*args, **kwargs)
