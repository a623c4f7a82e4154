"""Comparison of a traced graph with the model as written: outputs, gradients and buffers, in both modes.

A trace follows the operations of one run of ``forward``. It does not see what changes the backward pass alone, such as
``torch.no_grad()`` or the backward of a ``torch.autograd.Function``, and it freezes what depends on the values of the
input. Both are therefore run on the same rows with the same random draws, and with dropout that keeps everything,
because the masks of a graph have streams of their own.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from raysplit.data.inputs import Values, feed, map_values
from raysplit.models.backward import backward
from raysplit.models.cutting.dropout import Keyed, seed_dropouts
from raysplit.models.cutting.rewrite import DROPOUT_FUNCTIONS
from raysplit.models.cutting.tracing import LEAVE_WHOLE, CannotCut, arguments
from raysplit.seeding import keyed_draws, torch_generator

logger = logging.getLogger(__name__)

Compute = Callable[[nn.Module, Values], Any]

MAX_BYTES = 2 * 2**30
NUM_ROWS = 3  # batch norm needs more than one
NEARLY_SAME = 1e-6
"""Largest difference of a gradient, as a share of its largest entry, that is accepted as another order of sums."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What one forward and backward pass gives: outputs, gradients by name, and buffers after it."""

    outputs: list[Any]
    gradients: Mapping[str, Tensor | None]
    buffers: Mapping[str, Tensor]


def check_same_output(model: nn.Module, root: nn.Module, compute: Compute, example: Values) -> None:
    """Raise `CannotCut` unless the graph has the outputs of the model in evaluation mode."""

    def outputs(run: Compute, module: nn.Module, seed: int) -> list[Any]:
        with torch.no_grad(), keyed_draws(seed):
            return pytree.tree_leaves(run(_copy(module).eval(), map_values(torch.clone, example)))

    written = outputs(feed, model, 0)
    if not _same(written, outputs(compute, root, 0)):
        draws = not all(_same(written, outputs(feed, model, seed)) for seed in range(1, 5))
        raise CannotCut(_wrong_output(type(model).__name__, "evaluation", draws=draws))


def check_same_model(
    model: nn.Module, root: nn.Module, compute: Compute, example: Values, longer: Values | None = None
) -> None:
    """Raise `CannotCut` unless the graph computes and learns what the model as written does, in both modes.

    It takes some forward and backward passes and, for a time, the memory of some copies of the gradients. Models of
    more than `MAX_BYTES` are not checked, which is logged.
    """
    size = sum(parameter.nbytes for parameter in model.parameters())
    if size > MAX_BYTES:
        logger.warning("the gradients of the model as written and of its graph are not compared: it has %d bytes", size)
        return
    name = type(model).__name__

    def compare(training: bool, seed: int, batch: Values) -> None:
        mode = "training" if training else "evaluation"
        written = _run(_written(model, training), feed, batch, seed)
        traced = _run(_ready(_copy(root), training), compute, batch, seed)
        if not _same(written.outputs, traced.outputs):
            others = [_run(_written(model, training), feed, batch, seed + more) for more in range(1, 5)]
            draws = not all(_same(written.outputs, other.outputs) for other in others)
            raise CannotCut(_wrong_output(name, mode, draws=draws))
        if wrong := _different_gradient(written.gradients, traced.gradients):
            raise CannotCut(
                f"in {mode} mode the graph of {name} has another gradient of {wrong!r} than the model: its forward "
                f"calls what a trace does not see, such as torch.no_grad() or a torch.autograd.Function; {LEAVE_WHOLE}"
            )
        kept = [key for key in written.buffers if key in traced.buffers]
        if wrong := next((key for key in kept if not _same([written.buffers[key]], [traced.buffers[key]])), None):
            raise CannotCut(
                f"in {mode} mode the graph of {name} leaves another value in the buffer {wrong!r} than the model; "
                f"{LEAVE_WHOLE}"
            )

    compare(False, 0, example)
    if longer is not None:
        compare(False, 0, longer)
        compare(True, 0, _more_rows(longer))
    rows = _more_rows(example)
    compare(True, 0, rows)
    written, traced = _twice(_written(model, True), feed, rows), _twice(root, compute, rows)
    if written is not None and traced is not None and not _close(written[1], traced[1]):
        raise CannotCut(
            f"from its second batch on, the graph of {name} computes something else than the model: its forward keeps "
            f"something between batches that a trace freezes, such as a counter or a random generator of its own; keep "
            f"numbers in buffers and draw from torch's own stream, or {LEAVE_WHOLE}"
        )
    if _draws(model, rows):
        for seed in range(1, 4):  # a branch on a random number agrees with its trace now and then
            compare(True, seed, rows)


def keeps_hidden_state(model: nn.Module, example: Values) -> bool:
    """Whether a training pass changes the next one through something that is neither a weight nor a buffer.

    Such a thing, a counter or a random generator of the model's own, is in no checkpoint. A model that fails on the
    batch, or of more than `MAX_BYTES`, is taken to keep nothing.
    """
    if sum(parameter.nbytes for parameter in model.parameters()) > MAX_BYTES:
        return False
    runs = _twice(model, feed, _more_rows(example))
    return runs is not None and not _close(*runs)


def _twice(module: nn.Module, compute: Compute, batch: Values) -> tuple[list[Any], list[Any]] | None:
    """Return outputs and gradients of two training passes from equal weights, buffers and random streams."""
    copied = _ready(_copy(module), True)
    buffers = {path: dict(part.named_buffers(recurse=False)) for path, part in copied.named_modules()}
    kept = copy.deepcopy(buffers)
    found = []
    for _ in range(2):
        try:
            run = _run(copied, compute, batch, 0)
        except Exception:
            return None
        found.append([*run.outputs, *run.gradients.values()])
        for path, own in copy.deepcopy(kept).items():
            copied.get_submodule(path)._buffers.update(own)
    return found[0], found[1]


def _close(first: Sequence[Any], second: Sequence[Any]) -> bool:
    """Whether values agree but for the order of sums."""
    return len(first) == len(second) and all(
        a is b
        or (
            a is not None
            and b is not None
            and torch.allclose(a.double(), b.double(), rtol=1e-5, atol=1e-6, equal_nan=True)
        )
        for a, b in zip(first, second, strict=True)
    )


def _wrong_output(name: str, mode: str, *, draws: bool) -> str:
    if draws:
        return (
            f"{name} draws a random number that a trace would freeze, such as torch.rand(4), or one of NumPy's or "
            f"Python's own; draw it from the input (torch.rand_like(x)), or {LEAVE_WHOLE}"
        )
    return (
        f"in {mode} mode the graph of {name} computes something else than the model: its forward depends on the values "
        f"of its input, or writes in place through a view or a second name; {LEAVE_WHOLE}"
    )


class _KeepingEverything(TorchFunctionMode):
    """A mode in which the dropout functions return their input."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in DROPOUT_FUNCTIONS:
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention:
            args, kwargs = args[:4], {**dict(zip(("dropout_p", "is_causal"), args[4:], strict=False)), **(kwargs or {})}
            kwargs["dropout_p"] = 0.0
        return func(*args, **(kwargs or {}))


def _written(model: nn.Module, training: bool) -> nn.Module:
    copied = _copy(model)
    seed_dropouts(copied)
    return _ready(copied, training)


def _copy(module: nn.Module) -> nn.Module:
    """Copy a module with its buffers; its parameters are shared."""
    return copy.deepcopy(module, memo={id(parameter): parameter for parameter in module.parameters()})


def _ready(module: nn.Module, training: bool) -> nn.Module:
    module.train(training)
    for dropout in module.modules():
        if isinstance(dropout, Keyed):
            dropout.keep_everything()
    return module


def interpreted(graph: fx.Graph, root: nn.Module, batch: Values) -> Any:
    """Compute a graph, whose state is in `root`, for a batch."""
    interpreter: Any = fx.Interpreter(root, graph=graph)
    return interpreter.run(*arguments(graph, batch))


def _run(module: nn.Module, compute: Compute, batch: Values, seed: int) -> _Run:
    """Run forward and backward; gradients of the batch are wanted as well, of a copy that may be written in place."""
    inputs = {"x": batch} if isinstance(batch, Tensor) else dict(batch)
    wanted = {**dict(module.named_parameters()), **{f"input {key}": value for key, value in inputs.items()}}
    with _own_gradients(list(wanted.values())), torch.enable_grad(), keyed_draws(seed), _KeepingEverything():
        outputs = [
            value
            for value in pytree.tree_leaves(compute(module, map_values(torch.clone, batch)))
            if isinstance(value, Tensor)
        ]
        if learned := [value for value in outputs if value.requires_grad]:
            backward(learned, [_direction(value, number) for number, value in enumerate(learned)])
        gradients = {key: None if value.grad is None else value.grad.clone() for key, value in wanted.items()}
    return _Run(
        outputs=[value.detach() for value in outputs], gradients=gradients, buffers=dict(module.named_buffers())
    )


def _direction(value: Tensor, number: int) -> Tensor:
    return torch.randn(value.shape, generator=torch_generator(0, "same model", number)).to(value)


@contextmanager
def _own_gradients(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Give the tensors fresh gradients in this context; floating ones without a history require them."""
    before = [(tensor, tensor.grad, tensor.requires_grad) for tensor in tensors]
    for tensor in tensors:
        tensor.grad = None
        if tensor.is_floating_point() and not isinstance(tensor, nn.Parameter):
            tensor.requires_grad_(True)
    try:
        yield
    finally:
        for tensor, gradient, required in before:
            tensor.grad = gradient
            if tensor.is_leaf:
                tensor.requires_grad_(required)


def _different_gradient(written: Mapping[str, Tensor | None], graph: Mapping[str, Tensor | None]) -> str | None:
    """Return the name of a tensor whose gradients differ by more than another order of sums."""
    for name, own in written.items():
        other = graph[name]
        if own is None or other is None:
            if own is not other:
                return name
        elif not _same([own], [other]):
            if not float((own - other).abs().max()) <= NEARLY_SAME * float(own.abs().max()):
                return name
            logger.info("the gradient of %r differs in the last bits between the graph and the model as written", name)
    return None


def _draws(model: nn.Module, batch: Values) -> bool:
    """Whether the model draws random numbers in training, apart from dropout."""

    def outputs(seed: int) -> list[Any]:
        with torch.no_grad(), keyed_draws(seed), _KeepingEverything():
            return pytree.tree_leaves(feed(_written(model, True), map_values(torch.clone, batch)))

    return not _same(outputs(0), outputs(1))


def _more_rows(example: Values) -> Values:
    """Repeat the rows of an example, with noise on floating numbers."""
    generator = torch_generator(0, "same model", "rows")

    def rows(value: Tensor) -> Tensor:
        repeated = torch.cat([value[:1]] * NUM_ROWS)
        if not value.is_floating_point():
            return repeated
        return repeated + torch.randn(repeated.shape, generator=generator).to(repeated)

    return map_values(rows, example)


def _same(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))


def _equal(a: Any, b: Any) -> bool:
    if not isinstance(a, Tensor):
        return bool(a == b)
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
