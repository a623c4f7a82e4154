"""Units of an exported model: the blocks of its longest list of like modules."""

from __future__ import annotations

from torch import nn

from raysplit.models.cutting.part_graph import CutGraph


def block_ends(model: nn.Module, graph: CutGraph) -> list[tuple[str, int]]:
    """Return the name of each block and the position after it; the last one ends with the graph.

    The blocks are the children of the ``nn.ModuleList`` or ``nn.Sequential`` of like modules that holds most
    parameters. An ``nn.Sequential`` has its own children as units. Empty for a model with neither.
    """
    if type(model).forward is nn.Sequential.forward:
        paths = list(model._modules)
    else:
        path = _longest(model)
        paths = [] if path is None else [f"{path}.{name}".lstrip(".") for name in model.get_submodule(path)._modules]
    ends = [(name, graph.names.module_ends[name]) for name in paths if name in graph.names.module_ends]
    positions = [position for _, position in ends]
    if len(ends) < 2 or positions != sorted(set(positions)):
        return []
    return [*ends[:-1], (ends[-1][0], graph.crossings.end)]


def _longest(model: nn.Module) -> str | None:
    best: tuple[int, str] | None = None
    for path, module in model.named_modules():
        children = list(module.children())
        if not isinstance(module, nn.ModuleList | nn.Sequential) or len(children) < 2:
            continue
        if len({type(child) for child in children}) == 1:
            size = sum(parameter.numel() for parameter in module.parameters())
            if best is None or size > best[0]:
                best = size, path
    return None if best is None else best[1]
