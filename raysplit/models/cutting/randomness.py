"""Random draws of a part from the stream of its step, whatever module or function makes them.

Torch, NumPy and Python each have one global stream per process. What a part draws from them would depend on what else
the process did before: on other owners, on the places, on whether the run was resumed. `raysplit.seeding.keyed_draws`
seeds all three for one piece of work and puts them back; `may_draw` says which parts need that.

Dropout and stochastic depth do not: their masks are keyed by the step and the layer (`SeededDropout`), so that they do
not depend on where a model is cut. Other draws are keyed by the step and the part: cut elsewhere, they are others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx, nn

from raysplit.models.cutting.dropout import SeededDropout

_STEADY_PACKAGES = ("torch.nn.", "torch.ao.nn.", "raysplit.", "torchvision.ops.misc.") + tuple(
    f"torchvision.models.{family}." for family in ("resnet", "efficientnet", "mobilenetv2", "mobilenetv3", "vgg")
)
"""Beginnings of the names of modules whose forward draws in the modules named below alone."""
_DRAWING_MODULES = (
    nn.modules.dropout._DropoutNd,
    nn.RReLU,
    nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d,
)
_DRAWING_WORDS = (
    *("dropout", "rrelu", "gumbel", "fractional_max_pool", "rand", "normal", "bernoulli", "multinomial", "poisson"),
    *("uniform", "exponential", "geometric", "cauchy", "binomial", "sample", "attention", "lstm", "gru", "rnn"),
)
"""Parts of the names of torch's functions that may draw; a steady one among them costs a few microseconds."""


def may_draw(root: nn.Module) -> bool:
    """Whether computing with the module may draw from a global stream; what is not known to be steady may."""
    return any(_draws(module) for module in root.modules())


def function_may_draw(function: Callable[..., Any]) -> bool:
    """Whether a loss or a transform may draw from a global stream: all but our own and torch's plain losses may."""
    module = getattr(function, "__module__", None) or type(function).__module__
    return not module.startswith(_STEADY_PACKAGES)


def _draws(module: nn.Module) -> bool:
    if isinstance(module, SeededDropout):
        return False
    if isinstance(module, fx.GraphModule):
        return any(node_draws(node) for node in module.graph.nodes)
    if isinstance(module, _DRAWING_MODULES):
        return True
    if isinstance(module, nn.RNNBase | nn.MultiheadAttention):
        return module.dropout > 0
    return not f"{type(module).__module__}.".startswith(_STEADY_PACKAGES)


def node_draws(node: fx.Node) -> bool:
    """Whether a node calls a function or method that may draw from a global stream."""
    if node.op == "call_method":
        return _has_drawing_word(str(node.target))
    if node.op != "call_function":
        return False  # a submodule is asked by itself
    target: Any = node.target
    home = getattr(target, "__module__", None) or ""
    if home.startswith(("_operator", "operator", "builtins", "math")):
        return False
    if not home.startswith(("torch", "raysplit.")):
        return True
    return home.startswith("torch") and _has_drawing_word(getattr(target, "__name__", ""))


def _has_drawing_word(name: str) -> bool:
    return any(word in name for word in _DRAWING_WORDS)
