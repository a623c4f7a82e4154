"""The blocks of a model, which are its units where it has a list of them."""

from __future__ import annotations

from torch import nn

from raysplit.models.cutting.part_graph import CutGraph

BLOCK_SOURCES = ("timm:", "hf:")
"""Beginnings of the names of models whose units are blocks also where torch.fx traces them."""


def block_ends(model: nn.Module, graph: CutGraph) -> list[tuple[str, int]]:
    """Return the name of each block and the position after it; the last one ends with the graph.

    The blocks are the children of those ``nn.ModuleList`` and ``nn.Sequential`` of like modules that together hold most
    parameters. An ``nn.Sequential`` has its own children as units. Empty for a model with neither.
    """
    is_chain = type(model).forward is nn.Sequential.forward
    paths = list(model._modules) if is_chain else _block_paths(model)
    ends = [(name, graph.names.module_ends[name]) for name in paths if name in graph.names.module_ends]
    positions = [position for _, position in ends]
    if len(ends) < 2 or positions != sorted(set(positions)):
        return []
    return [*ends[:-1], (ends[-1][0], graph.crossings.end)]


def _block_paths(model: nn.Module) -> list[str]:
    """Return the paths of the blocks; those of a residual network stand in a list for each size of its pictures."""
    paths: dict[type[nn.Module], list[str]] = {}
    sizes: dict[type[nn.Module], int] = {}
    for path, module in model.named_modules():
        children = dict(module.named_children())
        kinds = {type(child) for child in children.values()}
        if isinstance(module, nn.ModuleList | nn.Sequential) and len(kinds) == 1:
            (kind,) = kinds
            paths.setdefault(kind, []).extend(f"{path}.{name}".lstrip(".") for name in children)
            sizes[kind] = sizes.get(kind, 0) + sum(parameter.numel() for parameter in module.parameters())
    several = [kind for kind, found in paths.items() if len(found) > 1]
    return paths[max(several, key=lambda kind: sizes[kind])] if several else []
