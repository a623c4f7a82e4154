"""What `torch.export` knows of the values in a graph: shapes, types and sizes as symbolic expressions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from raysplit.models.cutting.numbers import BATCH, CONSTANT, PLAIN_TYPES, Seen, Size, SizeKey

VALUE = "val"  # key in the meta of a node, as torch.export has it


def fixed_sizes(graph: fx.Graph) -> list[str]:
    """Return the names of the inputs whose number of samples the graph takes for a constant."""
    return [str(node.target) for node in _inputs(graph) if _expression(node.meta[VALUE].shape[0]) is None]


def seen_in_export(graph: fx.Graph) -> dict[fx.Node, Seen]:
    """Return what is known of the value of each node."""
    rows = {_expression(node.meta[VALUE].shape[0]) for node in _inputs(graph)}
    return {node: _seen(node.meta.get(VALUE), rows) for node in graph.nodes if node.op != "output"}


def _inputs(graph: fx.Graph) -> list[fx.Node]:
    return list(graph.find_nodes(op="placeholder"))


def _expression(size: Any) -> Any:
    """Return the expression of a size, or None for a constant."""
    if not isinstance(size, torch.SymInt):
        return None
    return None if size.node.expr.is_number else size.node.expr


def _seen(value: Any, rows: set[Any]) -> Seen:
    if isinstance(value, Tensor):
        example = torch.empty([_hint(size) for size in value.shape], dtype=value.dtype, device="meta")
        return Seen(value=example, sizes=tuple(_key(size, rows) for size in value.shape))
    if isinstance(value, int | torch.SymInt) and not isinstance(value, bool):
        return Seen(value=value, sizes=_key(value, rows))
    return Seen(value=value, sizes=CONSTANT if isinstance(value, PLAIN_TYPES) and value is not None else None)


def _key(size: Any, rows: set[Any]) -> SizeKey:
    expression = _expression(size)
    if expression is None:
        return int(size)
    if expression in rows:
        return BATCH
    symbols = set(expression.free_symbols)
    has_batch = any(row is not None and symbols & set(row.free_symbols) for row in rows)
    return Size(str(expression), has_batch=has_batch or _hint(size) is None)


def _hint(size: Any) -> int:
    """Return the size in the example; 0 for one that depends on values."""
    if not isinstance(size, torch.SymInt):
        return int(size)
    shapes: Any = size.node.shape_env
    known: Mapping[Any, Any] = getattr(shapes, "backed_var_to_val", None) or shapes.var_to_val
    found = size.node.expr.xreplace(dict(known))
    return int(found) if found.is_number else 0
