"""Tied weights with uses at both ends of a cut model, where one party has both ends.

The first part owns such a weight: its optimizer steps it, and its state has it. The last part uses the same tensor and
has it neither among its parameters nor in its state, so that it is averaged, sent and stored once. The gradient is the
sum of what both parts add to it, as on the model that is not cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

_BORROWED, _LENDS = "_raysplit_borrowed", "_raysplit_lends"


def borrow(part: nn.Module, owner: nn.Module) -> None:
    """Take from a part the weights that another part owns; it goes on using them."""
    names = {id(parameter): name for name, parameter in owner.named_parameters()}
    borrowed = {}
    for path, module in part.named_modules(remove_duplicate=False):
        for leaf, parameter in list(module._parameters.items()):
            if id(parameter) in names:
                del module._parameters[leaf]
                module.__dict__[leaf] = parameter
                borrowed[f"{path}.{leaf}".lstrip(".")] = names[id(parameter)]
    part.__dict__[_BORROWED] = borrowed


def tie(parts: Sequence[nn.Module]) -> None:
    """Give the last part the weights of the first one that it borrows, after either was built or restored."""
    if len(parts) > 1:
        parts[0].__dict__[_LENDS] = bool(_borrowed(parts[-1]))
    for path, name in _borrowed(parts[-1]).items():
        owner, _, leaf = path.rpartition(".")
        parts[-1].get_submodule(owner).__dict__[leaf] = parts[0].get_parameter(name)


def set_aside(part: nn.Module) -> None:
    """Keep the gradients of borrowed weights from earlier micro-batches apart, before this part adds its own.

    The unsplit model adds what one batch gives first, and then what came before; `add_aside` does the same.
    """
    for weight in _weights(part):
        if weight.grad is not None:
            weight.__dict__[_BORROWED], weight.grad = weight.grad, None


def add_aside(part: nn.Module) -> None:
    """Add the gradients that `set_aside` kept, once this part has added its own to those of the batch."""
    for weight in part.parameters() if part.__dict__.get(_LENDS) else ():
        kept: Tensor | None = weight.__dict__.pop(_BORROWED, None)
        if kept is not None:
            weight.grad = kept if weight.grad is None else kept.add_(weight.grad)


def drop_aside(part: nn.Module) -> None:
    """Forget the gradients that `set_aside` kept."""
    for weight in part.parameters() if part.__dict__.get(_LENDS) else ():
        weight.__dict__.pop(_BORROWED, None)


def _weights(part: nn.Module) -> Iterator[nn.Parameter]:
    for path in _borrowed(part):
        owner, _, leaf = path.rpartition(".")
        yield part.get_submodule(owner).__dict__[leaf]


def _borrowed(part: nn.Module) -> dict[str, str]:
    found: dict[str, str] = part.__dict__.get(_BORROWED, {})
    return found
