"""Gradients of several owners of a process in one pass: the owners' models are stacked and mapped over by torch.vmap.

A step of a small model takes longer to call than to compute. Owners whose whole model is theirs do not wait for one
another, so the batches of those that compute at the same time can be one computation on stacked weights [owners, ...].
Everything else of a step (optimizer, clipping, proximal term, checks) is each owner's own.

Stacked kernels round in another order than those of one model, so the weights differ from those of ``vectorize: 1`` in
the last bits. They do not depend on which owners compute together, nor on how many, as long as there are two: a single
owner is computed twice. `require_steady` checks this for a model before a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from raysplit.actors.parts.leaves import as_tuple, untuple
from raysplit.actors.parts.losses import Loss
from raysplit.actors.steps.clip import trained_parameters
from raysplit.actors.steps.shares import Share, with_share
from raysplit.data.inputs import feed
from raysplit.models.cutting.dropout import dropout_stream
from raysplit.models.frozen import train_mode
from raysplit.seeding import keyed_draws

FEWEST = 2
"""The fewest models of a stacked computation; of one, kernels take another way."""


def stacked_gradients(
    modules: Sequence[nn.Module], xs: Sequence[Any], ys: Sequence[Any], loss: Loss, shares: Sequence[Share]
) -> tuple[list[float], list[tuple[Tensor | None, ...]]]:
    """Compute the loss and the gradients of several models of one kind, each on a batch of its own.

    Args:
        modules: the models, which differ in their trained weights alone.
        xs: the inputs [B, ...] of each, or inputs by name, of the same shapes.
        ys: the targets of each, of the same shapes.
        loss: the loss of a batch.
        shares: factors on the losses, for micro-batches of a step.

    Returns:
        the loss of each model, without its factor, and the gradients of its trained weights in the module's order,
        None for one that the loss does not depend on.
    """
    names = [name for name, parameter in modules[0].named_parameters() if parameter.requires_grad]
    own = [trained_parameters(module) for module in modules]
    stacked = [torch.stack([each[i].detach() for each in own]).requires_grad_() for i in range(len(names))]

    def outputs_of(weights: list[Tensor], x: Any) -> Any:
        args, named = ((), dict(x)) if isinstance(x, Mapping) else (as_tuple(x), {})
        return functional_call(modules[0], dict(zip(names, weights, strict=True)), args, named)

    with sdpa_kernel(SDPBackend.MATH):  # fused attention is computed one model after another
        leaves, form = pytree.tree_flatten(vmap(outputs_of)(stacked, _stack(xs)))
    by_model = zip(*[leaf.unbind(0) for leaf in leaves], strict=True)
    outputs = [untuple(as_tuple(pytree.tree_unflatten(own, form))) for own in by_model]
    both = [with_share(loss, z, y, share) for z, y, share in zip(outputs, ys, shares, strict=True)]
    losses, scaled = zip(*both, strict=True)
    # A model's loss depends on its own slice of the weights alone, if on any.
    gradients = torch.autograd.grad(scaled, stacked, allow_unused=True)
    slices = [[None] * len(modules) if gradient is None else gradient.unbind(0) for gradient in gradients]
    return [float(value.detach()) for value in losses], list(zip(*slices, strict=True))


def _stack(values: Sequence[Any]) -> Any:
    return pytree.tree_map(lambda *tensors: torch.stack(tensors), *values)


def require_steady(module: nn.Module, x: Any, y: Any, loss: Loss) -> None:
    """Raise ``ValueError`` for a model that cannot be computed stacked, or whose numbers then depend on its company.

    Args:
        module: the model.
        x: the inputs [B, ...] of a batch, or inputs by name.
        y: its targets.
        loss: the loss.
    """
    leave_out = "leave training.vectorize out"
    train_mode(module)
    before = [buffer.clone() for buffer in module.buffers()]
    values = [_loss_with_draws_of(seed, module, x, y, loss) for seed in (0, 1)]
    if any(not torch.equal(a, b) for a, b in zip(before, module.buffers(), strict=True)):
        raise ValueError(
            f"training.vectorize computes several owners at once, and the model has running statistics, such as those "
            f"of batch norm, which are each owner's own; {leave_out}, or take a model without them"
        )
    if values[0] != values[1]:
        raise ValueError(
            f"training.vectorize computes several owners at once, and the model or its loss draws random numbers in "
            f"training, which are each owner's own; {leave_out}, or train without dropout"
        )
    try:
        few = stacked_gradients([module] * FEWEST, [x] * FEWEST, [y] * FEWEST, loss, [1.0] * FEWEST)
        many = stacked_gradients([module] * 5, [x] * 5, [y] * 5, loss, [1.0] * 5)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"training.vectorize maps the model over several owners by torch.vmap, which cannot take it: {reason}; "
            f"{leave_out}"
        ) from error
    torch.autograd.backward(loss(untuple(as_tuple(feed(module, x))), y))
    alone = [(few[1][0][i], p.grad) for i, p in enumerate(trained_parameters(module))]
    if any((g is None) != (h is None) for g, h in alone) or not all(_are_near(g, h) for g, h in alone):
        raise ValueError(
            f"training.vectorize maps the model over several owners by torch.vmap, and its gradients are not those of "
            f"the model by itself; {leave_out}"
        )
    pairs = [(g, h) for own in many[1] for g, h in zip(few[1][0], own, strict=True) if g is not None and h is not None]
    if any(not torch.equal(g, h) for g, h in pairs):
        raise ValueError(
            f"the gradients of this model depend on how many owners are computed at once on this machine, so that "
            f"places would change weights; {leave_out}"
        )


def _are_near(g: Tensor | None, h: Tensor | None) -> bool:
    """Whether two gradients differ by rounding alone."""
    return g is None or h is None or float((g - h).abs().max()) <= 1e-3 * float(h.abs().max()) + 1e-6


def _loss_with_draws_of(seed: int, module: nn.Module, x: Any, y: Any, loss: Loss) -> list[float]:
    """Return the sum of the squared outputs of a model and its loss, with random draws of this seed."""
    with torch.no_grad(), dropout_stream(seed), keyed_draws(seed):
        outputs = feed(module, x)
        squares = [float(t.double().square().sum()) for t in pytree.tree_leaves(outputs) if isinstance(t, Tensor)]
        return [*squares, float(loss(untuple(as_tuple(outputs)), y))]


class _Waiting(NamedTuple):
    """A batch whose gradients are asked for."""

    module: nn.Module
    x: Any
    y: Any
    loss: Loss
    share: Share
    done: asyncio.Future[float]


class _Company:
    """The owners of a process that compute together, in one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, list[_Waiting]] = {}
        self.slots: dict[int, asyncio.Semaphore] = {}

    def add(self, kind: Hashable, each: _Waiting) -> None:
        """Add a batch; all of this turn of the event loop are computed at its end."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._compute)
        self._waiting.setdefault(kind, []).append(each)

    def _compute(self) -> None:
        groups, self._waiting = [*self._waiting.values()], {}
        for group in groups:
            present = [each for each in group if not each.done.done()]  # others were canceled
            if present:
                _compute(present)


def _compute(group: Sequence[_Waiting]) -> None:
    """Add the gradients of a group to those of its weights; one by one where the group fails, to name the owner."""
    several = group if len(group) >= FEWEST else [*group, *group]
    modules, xs, ys, losses, shares, _ = zip(*several, strict=True)
    try:
        values, gradients = stacked_gradients(modules, xs, ys, losses[0], shares)
    except Exception as error:
        if len(group) == 1:
            group[0].done.set_exception(error)
        else:
            for each in group:
                _compute([each])
        return
    for each, value, own in zip(group, values, gradients, strict=False):
        for parameter, gradient in zip(trained_parameters(each.module), own, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        each.done.set_result(value)


_COMPANIES: WeakKeyDictionary[asyncio.AbstractEventLoop, _Company] = WeakKeyDictionary()


def _company() -> _Company:
    loop = asyncio.get_running_loop()
    if loop not in _COMPANIES:
        _COMPANIES[loop] = _Company()
    return _COMPANIES[loop]


async def loss_in_company(kind: Hashable, module: nn.Module, x: Any, y: Any, loss: Loss, share: Share) -> float:
    """Return the loss of a batch, with its gradients added to those of the module, computed with others of its kind."""
    same_loss = loss if isinstance(loss, Hashable) else id(loss)  # of one's own, each owner has its own
    key = kind, same_loss, *[(name, each.shape, each.dtype) for value in (x, y) for name, each in _named(value)]
    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    _company().add(key, _Waiting(module, x, y, loss, share, done))
    return await done


def _named(value: Any) -> Iterable[tuple[str, Tensor]]:
    return value.items() if isinstance(value, Mapping) else (("", value),)


def no_place() -> None:
    """Leave no place, as none was taken."""


_ALONE = nullcontext(no_place)


def place_among(vectorize: int) -> AbstractAsyncContextManager[Callable[[], None]]:
    """Return a context in which an owner is one of so many that compute at once in this process.

    Its value is a function that makes room for the next owner earlier. Owners that compute one after another, with
    ``vectorize: 1``, do not wait.
    """
    return _place(vectorize) if vectorize > 1 else _ALONE


@asynccontextmanager
async def _place(vectorize: int) -> AsyncIterator[Callable[[], None]]:
    slots = _company().slots.setdefault(vectorize, asyncio.Semaphore(vectorize))
    await slots.acquire()
    held = True

    def leave() -> None:
        nonlocal held
        if held:
            held = False
            slots.release()

    try:
        yield leave
    finally:
        leave()
