"""Measurement of the cost of each unit of a model on this machine, the profile that a planner of cuts needs.

As in MP-SL (Tirana, Lalis and Chatzopoulos, 2024, arXiv 2402.00208), whole batches go through the chain of units,
forward and backward. The forward pass, backward pass and optimizer step of each unit are timed separately, on one
thread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from raysplit.data.inputs import Input, described, example_batch, example_length, kept_back, map_values
from raysplit.models.backward import backward
from raysplit.models.crossing.raw_inputs import sent_inputs
from raysplit.models.cutting.split import trace
from raysplit.models.cutting.tracing import arguments
from raysplit.models.exporting.blocks import BLOCK_SOURCES
from raysplit.models.limits import within_positions
from raysplit.models.optimizer_step import use_up_gradients, without_compiler
from raysplit.schedulers.cuts.profiles import Profile, UnitProfile
from raysplit.seeding import one_thread, torch_generator

Tensors = tuple[Tensor, ...]


def measure_profile(
    model: nn.Module,
    *,
    name: str,
    input_shape: tuple[int, ...] = (),
    inputs: Mapping[str, Input] | None = None,
    length: int | None = None,
    batch_size: int = 128,
    repeats: int = 5,
    device: str = "this machine",
) -> Profile:
    """Time every unit of a model: its children if it is an nn.Sequential, else the steps between its cut points.

    Args:
        model: the model, which is trained on noise by the measurement; pass a copy.
        name: name of the model in the profile.
        input_shape: shape of one sample, if the model takes one unnamed floating input.
        inputs: records of the model's inputs by name, in all other cases.
        length: length of the samples, where they differ in length; None takes that of an example, and the profile says
            which it was.
        batch_size: samples per batch.
        repeats: number of measured batches, after one for warming up.
        device: name of this machine in the profile.

    Returns:
        Median times in ms over the repeats, with SGD (momentum 0.9, weight decay 1e-4) as the optimizer step; the bytes
        of the tensors that leave each unit for one batch, and of its parameters and buffers.

    Raises:
        ValueError: for fewer than one repeat or sample, a length where all samples have one shape, or that the model
            does not take, and a model that cannot be cut.
    """
    if repeats < 1 or batch_size < 1:
        raise ValueError(f"repeats is {repeats} and batch_size is {batch_size}; both must be at least 1")
    taken = within_positions(described(inputs or {}, input_shape)[0], model)
    length = _length(taken, length)
    lengths = None if length is None else [length] * batch_size
    x = example_batch(taken, batch_size, lengths=lengths, generator=torch_generator(0, "profile", "input"))
    traced = trace(
        model,
        map_values(lambda value: value[:1], x),
        kept_back=kept_back(taken),
        side=[key for key, entry in taken.items() if entry.role == "side"],
        units="blocks" if name.startswith(BLOCK_SOURCES) else "children",
    )
    units = [_Unit(name=unit) for unit in traced.units]
    parts = traced.cut(range(1, len(units)))
    sent = sent_inputs(traced, taken, torch.float32)
    sends = [bool(sent[position]) for position in traced.unit_ends[1:]]
    with without_compiler():
        optimizers = [_optimizer(part) for part in parts]
    with one_thread(), torch.random.fork_rng(devices=[]):
        for _ in range(1 + repeats):
            _train_batch(parts, optimizers, units, arguments(traced.graph, x))
    return Profile(
        model=name,
        device=device,
        batch_size=batch_size,
        units=tuple(unit.profile(part, sent) for unit, part, sent in zip(units, parts, sends, strict=True)),
        length=length,
    )


def _length(inputs: Mapping[str, Input], given: int | None) -> int | None:
    """Return the length of the samples of a batch; None where all samples have one shape."""
    if not any(entry.ragged for entry in inputs.values()):
        if given is not None:
            raise ValueError(f"the length is {given}, and all samples of these inputs have one shape; leave it out")
        return None
    longest = min((entry.longest for entry in inputs.values() if entry.longest is not None), default=None)
    if given is not None and longest is not None and given > longest:
        raise ValueError(f"the length is {given}, and the model has {longest} positions; give a length up to that")
    return example_length(inputs) if given is None else given


@dataclass(kw_only=True)
class _Unit:
    """Measured times of one unit; the first of each list is the warm-up."""

    name: str
    forward_s: list[float] = field(default_factory=list)
    backward_s: list[float] = field(default_factory=list)
    update_s: list[float] = field(default_factory=list)
    activation_bytes: int = 0
    activation_shapes: tuple[str, ...] = ()

    def profile(self, part: nn.Module, sends_inputs: bool) -> UnitProfile:
        weights = [*part.parameters(), *part.buffers()]
        return UnitProfile(
            name=self.name,
            forward_ms=1e3 * statistics.median(self.forward_s[1:]),
            backward_ms=1e3 * statistics.median(self.backward_s[1:]),
            update_ms=1e3 * statistics.median(self.update_s[1:]),
            activation_bytes=self.activation_bytes,
            activation_shapes=self.activation_shapes,
            parameter_shapes=tuple(f"{name} {_text(w.shape, w.dtype)}" for name, w in part.state_dict().items()),
            parameter_bytes=_num_bytes(weights),
            sends_inputs=sends_inputs,
        )


def _train_batch(
    parts: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer | None], units: Sequence[_Unit], x: Tensors
) -> None:
    entering: list[Tensors] = [x]
    leaving: list[Tensors] = []
    for part, unit in zip(parts, units, strict=True):
        start_s = time.perf_counter()
        out = part(*entering[-1])
        unit.forward_s.append(time.perf_counter() - start_s)
        leaving.append(_leaving(out))
        unit.activation_bytes = _num_bytes(leaving[-1])
        unit.activation_shapes = tuple(map(_shape, leaving[-1]))
        entering.append(tuple(z.detach().requires_grad_(z.is_floating_point()) for z in leaving[-1]))
    gradients: Tensors = tuple(torch.ones_like(z) / z.numel() for z in leaving[-1])
    for index in reversed(range(len(parts))):
        unit, optimizer = units[index], optimizers[index]
        start_s = time.perf_counter()
        _backward(leaving[index], gradients)
        unit.backward_s.append(time.perf_counter() - start_s)
        gradients = tuple(torch.zeros_like(z) if z.grad is None else z.grad for z in entering[index])
        start_s = time.perf_counter()
        if optimizer is not None:
            use_up_gradients(optimizer)
        unit.update_s.append(time.perf_counter() - start_s)


def _leaving(out: Any) -> Tensors:
    """Return the tensors that a unit makes; the last one may name its answers, one for each task."""
    if isinstance(out, Mapping):
        return tuple(value for value in out.values() if isinstance(value, Tensor))
    return out if isinstance(out, tuple) else (out,)


def _backward(leaving: Tensors, gradients: Tensors) -> None:
    tracked = [(z, g) for z, g in zip(leaving, gradients, strict=True) if z.requires_grad]
    if tracked:  # a unit without weights on the raw input has no backward pass
        backward([z for z, _ in tracked], [g for _, g in tracked])


def _optimizer(part: nn.Module) -> torch.optim.Optimizer | None:
    parameters = list(part.parameters())
    return torch.optim.SGD(parameters, lr=1e-6, momentum=0.9, weight_decay=1e-4) if parameters else None


def _shape(z: Tensor) -> str:
    """Return the shape of one sample with its dtype, such as ``64x8x8 float32``."""
    return _text(z.shape[1:], z.dtype)


def _text(shape: Sequence[int], dtype: torch.dtype) -> str:
    return f"{'x'.join(map(str, shape))} {str(dtype).removeprefix('torch.')}"


def _num_bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
