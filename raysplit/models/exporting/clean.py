"""An exported program as a plain graph: state by name, no assertions, regions written out, dropout as modules."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from raysplit.models.cutting.graph_state import attribute
from raysplit.models.cutting.tracing import CannotCut
from raysplit.models.exporting.facts import VALUE

STACK = "nn_module_stack"
AUTOCAST_OFF = "raysplit_autocast_off"  # key in the meta of a node: the device type whose autocast is off
_CHECKS = ("_assert", "sym_constrain_range", "_check")


def cleaned(program: torch.export.ExportedProgram, root: nn.Module, mode: str) -> fx.Graph:
    """Return the graph of a program whose state are the parameters, buffers and modules of `root`.

    Constants that the program has besides become buffers of `root` that are in no state dict. Raises `CannotCut` for
    what no graph can hold, such as a branch on a value.
    """
    return _Cleaner(program, root, mode).graph


class _Cleaner:
    def __init__(self, program: torch.export.ExportedProgram, root: nn.Module, mode: str) -> None:
        self.graph = fx.Graph()
        self.root = root
        self.first_names = {id(parameter): name for name, parameter in root.named_parameters()}
        self.first_names |= {id(buffer): name for name, buffer in root.named_buffers()}
        values: dict[fx.Node, Any] = {}
        inputs = iter(_input_names(program))
        for node, spec in zip(
            program.graph.find_nodes(op="placeholder"), program.graph_signature.input_specs, strict=True
        ):
            if spec.kind is InputKind.USER_INPUT:
                values[node] = self.graph.placeholder(next(inputs))
            elif node.users:
                values[node] = self._state(spec.target, program.constants, f"raysplit_constant_{mode}_{len(values)}")
            else:
                continue
            values[node].meta = _meta(node)
        self._copy(program.graph_module, values, gradient=True, autocast_off=None)
        (output,) = program.graph.find_nodes(op="output")
        flat = fx.node.map_aggregate(tuple(output.args[0]), lambda value: values.get(value, value))  # type: ignore[arg-type]
        self.graph.output(pytree.tree_unflatten(list(flat), program.call_spec.out_spec))

    def _state(self, target: str | None, constants: Mapping[str, Any], new_name: str) -> fx.Node:
        """Return a node for the tensor of the model with this name, by the first of its names."""
        assert target is not None
        value = constants.get(target)
        try:
            value = attribute(self.root, target)
        except AttributeError:  # a constant that forward makes
            if not isinstance(value, Tensor):
                raise CannotCut(f"its forward uses an object that is no tensor, {target!r}") from None
            self.root.register_buffer(new_name, value, persistent=False)
            return self.graph.get_attr(new_name)
        if id(value) not in self.first_names:  # a plain attribute
            owner, _, leaf = target.rpartition(".")
            module = self.root.get_submodule(owner)
            module.__dict__.pop(leaf, None)
            module.register_buffer(leaf, value, persistent=False)
        return self.graph.get_attr(self.first_names.get(id(value), target))

    def _copy(
        self, module: fx.GraphModule, values: dict[fx.Node, Any], *, gradient: bool, autocast_off: str | None
    ) -> None:
        for node in module.graph.nodes:
            if node.op in ("placeholder", "output"):
                continue
            if node.op == "get_attr":
                values[node] = attribute(module, str(node.target))
                continue
            name = getattr(node.target, "__name__", "")
            args, kwargs = fx.node.map_aggregate(
                (node.args, node.kwargs), lambda v: values[v] if isinstance(v, fx.Node) else v
            )
            if name.startswith(_CHECKS):
                continue
            if name == "wrap_with_set_grad_enabled":
                enabled, region, *rest = args
                values[node] = self._region(region, rest, gradient=gradient and enabled, autocast_off=autocast_off)
            elif name == "wrap_with_autocast":
                device_type, _, enabled, _, region, *rest = args
                if enabled:
                    raise CannotCut("its forward computes under torch.autocast; set model.precision instead")
                values[node] = self._region(region, rest, gradient=gradient, autocast_off=device_type)
            elif isinstance(node.target, torch._ops.HigherOrderOperator):
                raise CannotCut(f"its forward calls {name}, which cannot be written out as a graph")
            elif node.target is operator.getitem and isinstance(args[0], tuple):
                values[node] = args[0][args[1]]
            else:
                values[node] = self._operator(node, args, kwargs, gradient, autocast_off)

    def _region(self, region: fx.GraphModule, inputs: Sequence[Any], *, gradient: bool, autocast_off: Any) -> Any:
        values = dict(zip(region.graph.find_nodes(op="placeholder"), inputs, strict=True))
        self._copy(region, values, gradient=gradient, autocast_off=autocast_off)
        (output,) = region.graph.find_nodes(op="output")
        return fx.node.map_aggregate(output.args[0], lambda v: values[v] if isinstance(v, fx.Node) else v)

    def _operator(self, node: fx.Node, args: Any, kwargs: Any, gradient: bool, autocast_off: str | None) -> fx.Node:
        made = self.graph.create_node(node.op, node.target, args, kwargs, node.name)
        made.meta = _meta(node)
        if autocast_off is not None:
            made.meta[AUTOCAST_OFF] = autocast_off
        value = node.meta.get(VALUE)
        if gradient or not isinstance(value, Tensor) or not value.is_floating_point():
            return made
        cut_off = self.graph.call_function(torch.ops.aten.detach.default, (made,))
        cut_off.meta = dict(made.meta)
        return cut_off


def _input_names(program: torch.export.ExportedProgram) -> list[str]:
    """Return the names of the keyword inputs in the order of the placeholders."""
    _, keywords = pytree.tree_unflatten(
        list(range(len(program.graph_signature.user_inputs))), program.call_spec.in_spec
    )
    return sorted(keywords, key=lambda name: keywords[name])


def _meta(node: fx.Node) -> dict[str, Any]:
    """Return the value of a node and the modules around it, without the marks of repeated calls."""
    kept = {key: node.meta[key] for key in (VALUE,) if key in node.meta}
    stack = {key: (path.split("@")[0], kind) for key, (path, kind) in node.meta.get(STACK, {}).items()}
    return {**kept, STACK: {key: entry for key, entry in stack.items() if not entry[0].startswith("_empty")}}
