"""An owner's part that trains under a guard: DP-SGD, or a loss that keeps smashed data uncorrelated with inputs.

* DP-SGD: Abadi et al., "Deep Learning with Differential Privacy" (2016, arXiv 1607.00133). Opacus (Yousefpour et al.
  2021, arXiv 2109.12298) gives the gradient of every sample; each is clipped over all weights of the part, the sum gets
  noise and is divided by the size of the batch.
* NoPeek: see `raysplit.actors.guarding.correlation`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raysplit.actors.guarding.correlation import MIN_ROWS, correlation
from raysplit.actors.parts.leaves import Tensors, as_tuple, untuple
from raysplit.actors.parts.losses import Loss
from raysplit.actors.parts.part import Received, TrainablePart
from raysplit.actors.steps.clip import trained_parameters
from raysplit.actors.steps.shares import Share
from raysplit.guards.rules import WeightNoise
from raysplit.models.cutting.dropout import dropout_stream

Noise = Callable[[float, int], Tensor]


@dataclass(frozen=True, kw_only=True)
class PartGuards:
    """The guards of an owner's part.

    Attributes:
        weights: clipping of and noise on its gradients.
        nopeek: weight of the correlation of inputs and smashed data in the loss.
    """

    weights: WeightNoise | None = None
    nopeek: float = 0.0


class GuardedPart(TrainablePart):
    """A part of an owner; its arguments are those of `TrainablePart`, and its guards.

    Attributes:
        noise: returns normal noise of a standard deviation and a size; the owner sets it.
    """

    def __init__(self, module: nn.Module, *args: Any, guards: PartGuards, **kwargs: Any) -> None:
        super().__init__(module, *args, **kwargs)
        self._guards = guards
        self.noise: Noise | None = None
        self._rows = 0
        if guards.weights is not None:
            with_sample_gradients(self.module)

    def backward(self, g: Tensors) -> Tensors:
        """Accumulate gradients; with NoPeek those of (1 - alpha) loss + alpha correlation."""
        with _hooks_unwarned():
            return self._backward(g)

    def loss_gradient(
        self, z: Received, y: Any, loss: Loss, *, stream: int, share: Share = 1.0
    ) -> tuple[float, Tensors]:
        with _hooks_unwarned():
            return super().loss_gradient(z, y, loss, stream=stream, share=share)

    def _backward(self, g: Tensors) -> Tensors:
        alpha = self._guards.nopeek
        if not alpha or not self._outputs or len(self._outputs[0]) < MIN_ROWS:
            return super().backward(g)
        term = sum((correlation(x, z) for x in self._floating() for z in self._outputs), torch.zeros(()))
        with dropout_stream(self._stream), self.passes.backward(self.module):
            term.backward(torch.as_tensor(alpha, dtype=term.dtype), retain_graph=True)  # type: ignore[no-untyped-call]
        return super().backward(untuple(tuple(d * (1 - alpha) for d in as_tuple(g))))

    def _floating(self) -> list[Tensor]:
        found = [x for x in self._inputs if x.is_floating_point()]
        if len(found) != len(self._inputs) or not found:
            raise ValueError(
                "privacy.nopeek correlates smashed data with inputs of real numbers, and the model has others; leave "
                "nopeek out"
            )
        return found

    def _compute(self, z: Received, stream: int) -> None:
        super()._compute(z, stream)
        self._rows = len(self._outputs[0])

    def step(self, clip: Callable[[list[nn.Parameter]], Tensor] | None = None) -> None:
        """Apply the gradients; with DP-SGD those of single samples, clipped, summed, with noise and divided."""
        if self._guards.weights is not None and not self.frozen:
            self._make_private(self._guards.weights)
        super().step(clip)

    def _make_private(self, rules: WeightNoise) -> None:
        parameters = [p for p in trained_parameters(self.module) if _sample_gradient(p) is not None]
        rows = [_sample_gradient(p) * self._rows for p in parameters]  # of the loss of a sample, not of its share
        if not rows:
            return
        squares = torch.stack([row.double().reshape(len(row), -1).square().sum(1) for row in rows])  # [T, B]
        norms = squares.sum(0).sqrt()
        factors = torch.clamp(rules.clip / norms.clamp(min=torch.finfo(norms.dtype).tiny), max=1.0)
        summed = [torch.tensordot(factors, row.double(), dims=1) for row in rows]
        if rules.noise:
            assert self.noise is not None, "the owner gives the noise"
            made = self.noise(rules.noise * rules.clip, sum(p.numel() for p in parameters)).to(self.device)
            pieces = torch.split(made, [p.numel() for p in parameters])
            summed = [total + piece.view_as(total) for total, piece in zip(summed, pieces, strict=True)]
        for parameter, total in zip(parameters, summed, strict=True):
            parameter.grad = (total / self._rows).to(parameter.dtype)
            parameter.grad_sample = None  # type: ignore[attr-defined]

    def abandon(self) -> None:
        super().abandon()
        if self._guards.weights is not None:
            forget_samples(self.module)


@contextmanager
def _hooks_unwarned() -> Iterator[None]:
    """Leave out what torch says of hooks at layers whose inputs need no gradient: Opacus is made for it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        yield


def _sample_gradient(parameter: nn.Parameter) -> Any:
    return getattr(parameter, "grad_sample", None)


def with_sample_gradients(module: nn.Module) -> None:
    """Have every backward pass leave the gradient of each sample in ``grad_sample`` of the weights of a module.

    Raises:
        ValueError: Opacus is not installed, or the module has layers whose samples depend on one another.
    """
    refuse_coupled(module)
    try:
        from opacus.grad_sample import GradSampleModule
    except ImportError:
        raise ValueError(
            "privacy.weights needs Opacus, which is not installed; pip install 'raysplit[privacy]'"
        ) from None
    try:
        GradSampleModule(module, batch_first=True, loss_reduction="sum")
    except NotImplementedError as error:
        raise ValueError(
            f"privacy.weights needs the gradient of every sample, which Opacus does not have for a layer of this part: "
            f"{str(error).splitlines()[0]}; use layers that it knows"
        ) from None


def forget_samples(module: nn.Module) -> None:
    """Discard what Opacus keeps of a forward pass that no backward pass followed."""
    for layer in module.modules():
        if isinstance(kept := getattr(layer, "activations", None), list):
            kept.clear()
    for parameter in module.parameters():
        if hasattr(parameter, "_forward_counter"):
            parameter._forward_counter = 0
            parameter.grad_sample = None  # type: ignore[attr-defined]
        if hasattr(parameter, "_current_grad_sample"):
            del parameter._current_grad_sample


def refuse_coupled(module: nn.Module) -> None:
    """Raise ``ValueError`` for batch norm in an owner's part: one sample there changes all rows of its batch."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"the owner's part has batch norm ({name}), which joins the samples of a batch, so that one of them "
                f"changes all rows: privacy.z and privacy.weights promise nothing then; use group norm (model.norm: "
                f"group where the model has it), or cut before it"
            )
