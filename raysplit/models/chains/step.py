"""A unit of a chain: one of its blocks, or one of the model's own methods before and after them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from raysplit.models.cutting.dropout import Keyed, step_seed
from raysplit.models.cutting.randomness import may_draw
from raysplit.seeding import derive, keyed_draws


class Step(Keyed):
    """A unit of a chain, which gets its modules and weights as arguments, so that these keep their names.

    What it draws from global streams, apart from dropout, comes from the stream ``(seed of the step, its path)``, so
    that it does not depend on where the model is cut.

    Args:
        path: name of the unit in the model.
        draws: whether it may draw from a global stream.
    """

    def __init__(self, path: str, draws: bool) -> None:
        super().__init__()
        self.path = path
        self.draws = draws

    def keep_everything(self) -> None:
        """Do nothing: what drops inside a unit is turned off for the model and for its graph alike."""

    def compute(self, inputs: Any, state: Mapping[str, Any]) -> Any:
        """Compute the unit with its modules and weights."""
        raise NotImplementedError

    def forward(self, *inputs: Any, **state: Any) -> Any:
        seed = step_seed() if self.draws and self.training else None
        if seed is None:
            return self.compute(inputs, state)
        device = next((leaf.device for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)), "cpu")
        with keyed_draws(derive(seed, self.path), device):
            return self.compute(inputs, state)

    def extra_repr(self) -> str:
        return f"path={self.path!r}"


class BlockStep(Step):
    """A block of the model."""

    def __init__(self, path: str, block: nn.Module) -> None:
        super().__init__(path, may_draw(block))

    def compute(self, inputs: Any, state: Mapping[str, Any]) -> Any:
        return state["block"](*inputs)


class MethodStep(Step):
    """A method of the model, ``before`` or ``after``, which sees the modules and weights that it uses.

    Args:
        name: name of the method.
        model: the model.
        names: names of the inputs that the method gets by name; empty where it gets tensors in order.
    """

    def __init__(self, name: str, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__(name, draws=True)
        self.method: Callable[..., Any] = getattr(type(model), name)
        self.kind = type(model)
        self.names = names
        of_torch = nn.Module().__dict__
        self.plain = {key: value for key, value in model.__dict__.items() if key not in of_torch}

    def compute(self, inputs: Any, state: Mapping[str, Any]) -> Any:
        shell: Any = object.__new__(self.kind)
        nn.Module.__init__(shell)
        shell.__dict__.update(self.plain)
        for name, value in state.items():
            if isinstance(value, nn.Parameter):
                shell._parameters[name] = value
            elif isinstance(value, nn.Module):
                shell._modules[name] = value
            else:
                shell._buffers[name] = value
        shell.training = self.training
        if self.names:
            return self.method(shell, **dict(zip(self.names, inputs, strict=True)))
        return self.method(shell, *inputs)
