"""The state of a whole model from those of its parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn


def merge(states: Sequence[Mapping[str, Tensor]], like: nn.Module) -> dict[str, Tensor]:
    """Merge the state dicts of all parts into that of the whole model.

    Args:
        states: state dict of each part, in any order.
        like: the whole model, whose keys and order of keys the result has.

    Returns:
        The state dict of the whole model; tensors are not copied.

    Raises:
        ValueError: when a key is missing, is in two parts or is not the model's.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> first, last = raysplit.trace(model, torch.zeros(1, 4)).cut([2])
        >>> list(merge([first.state_dict(), last.state_dict()], like=model))
        ['0.weight', '0.bias', '2.weight', '2.bias']
    """
    merged: dict[str, Tensor] = {}
    for number, state in enumerate(states):
        if twice := merged.keys() & state.keys():
            raise ValueError(f"{some(twice)} come twice, the second time in part {number}; merge each part once")
        merged |= state
    expected = like.state_dict().keys()
    for name, first in other_names(like).items():
        if name not in merged and first in merged:
            merged[name] = merged[first]
    if missing := expected - merged.keys():
        raise ValueError(f"no part has {some(missing)}; merge all parts of the {type(like).__name__}")
    if foreign := merged.keys() - expected:
        raise ValueError(f"{type(like).__name__} has no {some(foreign)}; these parts belong to another model")
    return {key: merged[key] for key in expected}


def other_names(model: nn.Module) -> dict[str, str]:
    """Return the further names of tied weights and buffers, each with the first name of the tensor."""
    firsts = {id(tensor): name for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    every = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: firsts[id(tensor)] for name, tensor in every if firsts[id(tensor)] != name}


def some(keys: Iterable[str]) -> str:
    """Name the first five of some keys, and count the others."""
    names = sorted(keys)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
