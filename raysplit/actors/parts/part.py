"""A trainable part of a cut model: forward keeps the graph of the one batch in flight, backward consumes it.

Chained parts apply the same kernels to the same values as the uncut model, so training them gives the same bits (chain
rule: a part's backward pass is the vector-Jacobian product with the gradient that it receives).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from raysplit.actors.parts.leaves import Tensors, as_tuple, gradients, leaves, untuple
from raysplit.actors.parts.losses import Loss
from raysplit.actors.parts.optim import OWN_RATE, OptimizerSpec
from raysplit.actors.parts.packed import PackedPart, copied, fill, is_on, kept_tensors
from raysplit.actors.steps.clip import scale_gradients, trained_parameters
from raysplit.actors.steps.passes import Passes
from raysplit.actors.steps.rules import StepRules
from raysplit.actors.steps.shares import Share, with_share
from raysplit.models.backward import backward
from raysplit.models.crossing.tied import add_aside, drop_aside, set_aside
from raysplit.models.cutting.dropout import dropout_stream
from raysplit.models.frozen import load_trained, train_mode, trained_state
from raysplit.models.optimizer_step import load_optimizer, use_up_gradients, without_compiler
from raysplit.models.state_entries import names_of, parameters_of

Received = Tensors | Mapping[str, Tensor]
"""The inputs of a part: tensors that crossed a cut, or the inputs of the data, which may have names."""
BufferPolicy = Literal["average", "local"]


def on_device(value: Any, device: torch.device | str) -> Any:
    """Move labels (a tensor, or one per task) to a device."""
    return value.to(device) if isinstance(value, Tensor) else {k: v.to(device) for k, v in value.items()}


class TrainablePart:
    """One part of a model with its optimizer.

    Args:
        module: the network; it takes crossing tensors positionally, and several inputs of the data by name.
        optimizer: optimizer of its weights.
        input_gradients: whether to compute the gradients of the inputs, which the first part does not need.
        proximal_mu: weight mu of the term mu * (weight - weight at the last load), which is added to every gradient
            (FedProx, Li et al. 2020, arXiv 1812.06127).
        rules: further rules of its steps.
        device: torch device of the computation.

    Attributes:
        before_step: a function that is called before a step applies its gradients, if set.
        frozen: whether steps change nothing and the module is in evaluation mode.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: OptimizerSpec,
        *,
        input_gradients: bool = True,
        proximal_mu: float = 0.0,
        rules: StepRules | None = None,
        device: str = "cpu",
    ) -> None:
        self.module = module if is_on(module, device) else module.to(device)
        self.passes = Passes(rules or StepRules(), device)
        self.device = device
        self.input_gradients = input_gradients
        self.proximal_mu = proximal_mu
        self._spec = optimizer
        self._lr_scale = self._step_scale = 1.0
        self._optimizer: torch.optim.Optimizer | None = None
        self._stream = 0
        self._inputs: tuple[Tensor, ...] = ()
        self._outputs: tuple[Tensor, ...] = ()
        self._anchor: list[Tensor] = []
        self.before_step: Callable[[], None] | None = None
        self.frozen = False
        self.restart_optimizer()

    # -- one step ------------------------------------------------------------------------------------------------

    def forward(self, z: Received, *, stream: int) -> Tensors:
        """Run forward in train mode and keep the graph until `backward`; ``stream`` seeds this step's dropout masks."""
        self._compute(z, stream)
        return untuple(tuple([output.detach() for output in self._outputs]))

    def backward(self, g: Tensors) -> Tensors:
        """Accumulate the gradients of the parameters, which `step` applies, and return those of the inputs."""
        given = zip(self._outputs, as_tuple(g), strict=True) if as_tuple(g) else ()  # none for a frozen part
        pairs = [(output, d.to(self.device)) for output, d in given if output.requires_grad]
        if pairs:
            with dropout_stream(self._stream), self.passes.backward(self.module):
                backward([output for output, _ in pairs], [d for _, d in pairs])
        add_aside(self.module)
        return self._take_input_gradients()

    def loss_gradient(
        self, z: Received, y: Any, loss: Loss, *, stream: int, share: Share = 1.0
    ) -> tuple[float, Tensors]:
        """Run forward, loss and backward in one, and return the loss and the gradients of the inputs.

        A part with several heads may return a mapping from task to output, which the loss receives unchanged. Of a
        micro-batch, the gradients are those of the loss times its ``share`` of the targets of the step.
        """
        self._compute(z, stream)
        outputs = self.passes.widened(untuple(self._outputs))
        value, target = with_share(loss, outputs, on_device(y, self.device), share)
        set_aside(self.module)
        with dropout_stream(stream), self.passes.backward(self.module):
            torch.autograd.backward(target)
        return float(value.detach()), self._take_input_gradients()

    def run(self, *inputs: Tensor, **named: Tensor) -> Any:
        """Run the module forward by the rules of its steps."""
        return self.passes.forward(self.module, *inputs, **named)

    def step(self, clip: Callable[[list[nn.Parameter]], Tensor] | None = None) -> None:
        """Apply the accumulated gradients, multiplied by what ``clip`` returns for the weights, and clear them."""
        if self.frozen:
            self.module.zero_grad()
        if self._optimizer is None or self.frozen:
            return
        if self.proximal_mu:
            self._add_proximal_term()
        if self.before_step is not None:
            self.before_step()
        if clip is not None:
            trained = trained_parameters(self.module)
            scale_gradients(trained, clip(trained))
        use_up_gradients(self._optimizer)

    def predict(self, z: Received) -> Tensors:
        """Run forward in eval mode without a graph."""
        self.module.eval()
        with torch.no_grad():
            if isinstance(z, Mapping):
                return untuple(as_tuple(self.module(**{name: v.to(self.device) for name, v in z.items()})))
            return untuple(as_tuple(self.module(*(v.to(self.device) for v in as_tuple(z)))))

    def _compute(self, z: Received, stream: int) -> None:
        self.set_mode()
        named: dict[str, Tensor] = {}
        if isinstance(z, Mapping):  # inputs of the data, whose gradients are not needed
            self._inputs, named = (), {name: v.detach().to(self.device) for name, v in z.items()}
        elif self.input_gradients:
            self._inputs = leaves(z, self.device)
        else:
            self._inputs = tuple([v.detach().to(self.device) for v in as_tuple(z)])
        self._stream = stream
        with dropout_stream(stream):
            self._outputs = as_tuple(self.run(*self._inputs, **named))

    def set_mode(self) -> None:
        """Set the module to training mode, or to evaluation mode while this part is frozen."""
        if self.module.training == self.frozen:
            self.module.eval() if self.frozen else train_mode(self.module)

    def _take_input_gradients(self) -> Tensors:
        taken = gradients(self._inputs) if self.input_gradients else ()
        self._inputs = self._outputs = ()
        return taken

    def _add_proximal_term(self) -> None:
        for parameter, anchor in zip(trained_parameters(self.module), self._anchor, strict=True):
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - anchor, alpha=self.proximal_mu)

    # -- state ---------------------------------------------------------------------------------------------------

    @property
    def optimizer(self) -> torch.optim.Optimizer | None:
        """The present optimizer; None for a part without trainable weights."""
        return self._optimizer

    @property
    def has_optimizer_state(self) -> bool:
        """Whether the optimizer holds anything that its next step depends on, such as momentum."""
        return self._optimizer is not None and any(self._optimizer.state.values())

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The outputs of the batch in flight; none without one."""
        return self._outputs

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in parameters_of(self.module))

    def names(self) -> list[str]:
        """Return the names of all weights and buffers, frozen ones too."""
        return names_of(self.module)

    def weights(self) -> dict[str, Tensor]:
        """Copy what is trained, and buffers, to main memory, under the names of the whole model."""
        return {key: copied(value) for key, value in trained_state(self.module).items()}

    def load_weights(self, state: Mapping[str, Tensor], *, buffers: BufferPolicy = "average") -> None:
        """Load a copy of these weights, except frozen ones that they lack; ``buffers="local"`` keeps own statistics."""
        if buffers == "local":
            own = {name for name, _ in self.module.named_buffers()}
            state = {
                **{k: v for k, v in self.module.state_dict().items() if k in own},
                **{k: v for k, v in state.items() if k not in own},
            }
        load_trained(self.module, state)
        if self.proximal_mu:
            self._anchor = [p.detach().clone() for p in trained_parameters(self.module)]

    def restart_optimizer(self) -> None:
        """Discard the optimizer's state, such as momentum."""
        if self._optimizer is not None and not self.has_optimizer_state and self._is_current_optimizer():
            self._optimizer.state.clear()  # accesses of the state have left empty entries
        else:
            self._optimizer = self._spec.build_for(self.module)
        self.scale_learning_rate(self._lr_scale)

    def _is_current_optimizer(self) -> bool:
        """Whether the present optimizer is the one that would be built for the module."""
        assert self._optimizer is not None
        held = [p for group in self._optimizer.param_groups for p in group["params"]]
        wanted = trained_parameters(self.module)
        return len(held) == len(wanted) and all(a is b for a, b in zip(held, wanted, strict=True))

    def scale_learning_rate(self, factor: float) -> None:
        """Set the learning rate to the configured one times the factor of the round's schedule."""
        self._lr_scale = factor
        self._set_rates()

    def scale_step(self, factor: float) -> None:
        """Set the factor of the next step, which multiplies that of the round."""
        self._step_scale = factor
        self._set_rates()

    def _set_rates(self) -> None:
        if self._optimizer is not None:
            for group in self._optimizer.param_groups:
                group["lr"] = group.get(OWN_RATE, self._spec.lr) * self._lr_scale * self._step_scale

    def set_learning_rate(self, rate: float) -> None:
        """Replace the configured learning rate, which the round's schedule still multiplies."""
        self._spec = replace(self._spec, lr=rate)
        self.scale_learning_rate(self._lr_scale)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of weights, buffers, the optimizer's state and its configured learning rate."""
        return {"weights": self.weights(), "optimizer": self._optimizer_state(), "lr": self._spec.lr}

    def load_state_dict(self, state: Mapping[str, Any], *, buffers: BufferPolicy = "average") -> None:
        """Restore a `state_dict`; ``buffers="local"`` keeps this part's own batch-norm statistics."""
        self.abandon()
        self._spec = replace(self._spec, lr=state["lr"])
        self.restart_optimizer()
        self.load_weights(state["weights"], buffers=buffers)
        self._load_optimizer(state["optimizer"])

    def _optimizer_state(self) -> dict[str, Any]:
        with without_compiler():
            return deepcopy(self._optimizer.state_dict()) if self._optimizer else {}

    def _load_optimizer(self, state: Mapping[str, Any]) -> None:
        if self._optimizer is not None:
            load_optimizer(self._optimizer, state)

    def pack(self) -> PackedPart:
        """Release the module, between rounds only; call `unpack` before any other use."""
        optimizer = self._optimizer_state() if self.has_optimizer_state else None
        tensors = [copied(tensor.detach()) for tensor in kept_tensors(self.module)]
        self.abandon()
        del self.module, self._optimizer
        return PackedPart(tensors=tensors, optimizer=optimizer)

    def unpack(self, module: nn.Module, packed: PackedPart) -> None:
        """Restore the state before `pack`, bit for bit, in a module of the same kind with any weights."""
        self.module = module if is_on(module, self.device) else module.to(self.device)
        fill(self.module, packed.tensors)
        self._optimizer = self._spec.build_for(self.module)
        if packed.optimizer is not None:
            self._load_optimizer(packed.optimizer)
        else:
            self.scale_learning_rate(self._lr_scale)

    def abandon(self) -> None:
        """Discard the batch in flight, gradients that were not applied, and `before_step`."""
        self._inputs = self._outputs = ()
        self.before_step = None
        drop_aside(self.module)
        for parameter in parameters_of(self.module):
            parameter.grad = None
