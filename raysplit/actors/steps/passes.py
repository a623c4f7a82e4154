"""Forward passes of a part in bfloat16, and passes that keep only their inputs and run again in backward.

Autocast: Micikevicius et al., "Mixed Precision Training" (2018, arXiv 1710.03740). Recomputation: Chen et al.,
"Training Deep Nets with Sublinear Memory Cost" (2016, arXiv 1604.06174).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from raysplit.actors.steps.rules import StepRules
from raysplit.models.cutting.randomness import may_draw
from raysplit.seeding import draws_from, present_draws

_NOTHING = nullcontext()


class Passes:
    """The forward and backward passes of a part by the rules of its steps."""

    def __init__(self, rules: StepRules, device: str) -> None:
        self._in_bf16 = rules.precision == "bf16"
        self._recompute = rules.recompute
        self._device = torch.device(device)
        self._before: list[Tensor] = []  # buffers before the forward pass that is to be computed again

    def forward(self, module: nn.Module, *inputs: Tensor, **named: Tensor) -> Any:
        """Run the module on its inputs."""
        if not self._recompute:
            return self._run(module, inputs, named)
        self._before = [buffer.clone() for buffer in _buffers(module)]
        # Masks are keyed, so that they are the same again; other draws begin again where they began.
        draws = present_draws(self._device) if may_draw(module) else None
        again: Callable[[], AbstractContextManager[None]]
        again = partial(draws_from, draws, self._device) if draws else nullcontext
        return checkpoint(
            partial(self._run, module, inputs, named),
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), again()),
        )

    def _run(self, module: nn.Module, inputs: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> Any:
        if not self._in_bf16:
            return module(*inputs, **named)
        with torch.autocast(self._device.type, dtype=torch.bfloat16):
            return module(*inputs, **named)

    def widened(self, outputs: Any) -> Any:
        """Return the outputs of the model in float32, in which the loss is computed."""
        if not self._in_bf16:
            return outputs
        if isinstance(outputs, Mapping):
            return {name: self.widened(output) for name, output in outputs.items()}
        if isinstance(outputs, tuple):
            return tuple(self.widened(output) for output in outputs)
        return outputs.float() if isinstance(outputs, Tensor) and outputs.dtype == torch.bfloat16 else outputs

    def backward(self, module: nn.Module) -> AbstractContextManager[None]:
        """Return a context for the backward pass: running statistics move once, although forward runs twice."""
        return self._again(module) if self._recompute else _NOTHING

    @contextmanager
    def _again(self, module: nn.Module) -> Iterator[None]:
        after = [buffer.clone() for buffer in _buffers(module)]
        _load(module, self._before)
        try:
            yield
        finally:
            _load(module, after)
            self._before = []


def _buffers(module: nn.Module) -> list[Tensor]:
    kept = module.state_dict(keep_vars=True)
    return [buffer for name, buffer in module.named_buffers() if name in kept]


def _load(module: nn.Module, values: list[Tensor]) -> None:
    with torch.no_grad():
        for buffer, value in zip(_buffers(module), values, strict=True):
            buffer.copy_(value)
