"""Optimizers by configuration: the classes of ``torch.optim`` that can train any part, by their names in lower case.

Three of torch's cannot: LBFGS computes the loss several times per step, SparseAdam takes sparse gradients only, and
Muon takes matrices only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import torch

from raysplit.models.optimizer_step import use_up_gradients, without_compiler
from raysplit.models.state_entries import parameters_of
from raysplit.options import checked_options
from raysplit.registry import one_of

_UNFIT = {
    "lbfgs": "it computes the loss several times in a step",
    "sparseadam": "it takes sparse gradients only",
    "muon": "it takes matrices only, and parts have biases",
}


_SHARES: dict[str, tuple[tuple[str, ...], str, Callable[[float], bool]]] = {
    "momentum": ((), "at least 0 and less than 1", lambda value: 0 <= value < 1),
    "dampening": ((), "between 0 and 1", lambda value: 0 <= value <= 1),
    "alpha": (("rmsprop",), "at least 0 and less than 1", lambda value: 0 <= value < 1),
    "weight_decay": ((), "at least 0", lambda value: value >= 0),
    "eps": ((), "at least 0", lambda value: value is None or value >= 0),
}
"""The shares of earlier steps and other numbers that have bounds: the optimizers (none are all), the rule, the test."""


@cache
def _classes() -> dict[str, type[torch.optim.Optimizer]]:
    found = (getattr(torch.optim, name) for name in dir(torch.optim))
    return {
        c.__name__.lower(): c
        for c in found
        if isinstance(c, type) and issubclass(c, torch.optim.Optimizer) and c is not torch.optim.Optimizer
        if c.__name__.lower() not in _UNFIT
    }


OWN_RATE = "own_lr"
"""Key of a group of parameters with a learning rate of its own, in the optimizer."""


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Weights that are trained with other numbers than the rest.

    Attributes:
        match: pattern over names of weights of the whole model, with ``*`` and ``?``.
        lr: their learning rate; None takes the optimizer's.
        weight_decay: their weight decay; None takes the optimizer's.
    """

    match: str
    lr: float | None = None
    weight_decay: float | None = None

    @property
    def options(self) -> dict[str, float]:
        """The arguments of the group."""
        rate = {} if self.lr is None else {"lr": self.lr, OWN_RATE: self.lr}
        return rate | ({} if self.weight_decay is None else {"weight_decay": self.weight_decay})


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """An optimizer and its arguments.

    Attributes:
        name: name of a class of ``torch.optim``, in lower case.
        lr: learning rate.
        options: further arguments, such as ``momentum`` and ``weight_decay``.
        groups: groups of weights with other numbers; a weight belongs to the first that matches its name.

    Raises:
        ValueError: for an unknown name, a negative learning rate, or arguments that the class does not take.
    """

    name: str = "sgd"
    lr: float = 0.01
    options: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[ParameterGroup, ...] = ()

    def __post_init__(self) -> None:
        if self.name in _UNFIT:
            raise ValueError(
                f"optimizer {self.name} cannot train parts of a model: {_UNFIT[self.name]}; use one of "
                f"{', '.join(sorted(_classes()))}"
            )
        one_of("optimizer", self.name, sorted(_classes()))
        if not self.lr >= 0:
            raise ValueError(f"a learning rate must be at least 0, got {self.lr}")
        checked = checked_options(_classes()[self.name], self.options, name=self.name, given=("params", "lr"))
        object.__setattr__(self, "options", checked)
        self._require_shares()
        if any(group.weight_decay is not None for group in self.groups):
            checked_options(_classes()[self.name], {"weight_decay": 0.0}, name=self.name, given=("params", "lr"))
        if self.options or self.name != "sgd":  # torch's first optimizer takes a second
            self._try()  # wrong options fail here, not in a remote process

    def _require_shares(self) -> None:
        """Refuse numbers with which torch trains, and that grow from step to step."""
        for key, (names, rule, fits) in _SHARES.items():
            value = self.options.get(key)
            if value is not None and (not names or self.name in names) and not fits(value):
                raise ValueError(f"{key} of the optimizer {self.name} must be {rule}, got {value}")

    def _try(self) -> None:
        parameters = [torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in (2, (2, 2))]
        optimizer = self.build(parameters)
        assert optimizer is not None
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        try:
            use_up_gradients(optimizer)
        except (TypeError, LookupError, RuntimeError, AttributeError, ValueError, AssertionError) as error:
            raise ValueError(
                f"optimizer {self.name} with {dict(self.options)} cannot take a step: {error}; see torch.optim for its "
                f"arguments"
            ) from error

    def build(self, parameters: Iterable[torch.Tensor]) -> torch.optim.Optimizer | None:
        """Build the optimizer for these parameters; None if none of them requires a gradient."""
        return self._built([p for p in parameters if p.requires_grad])

    def build_for(self, module: torch.nn.Module) -> torch.optim.Optimizer | None:
        """Build the optimizer for the weights of a module, in their groups; None if it has none to train."""
        if not self.groups:
            return self.build(parameters_of(module))
        members: dict[ParameterGroup | None, list[torch.Tensor]] = {group: [] for group in (None, *self.groups)}
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                group = next((group for group in self.groups if fnmatchcase(name, group.match)), None)
                members[group].append(parameter)
        found = [{"params": own, **(group.options if group else {})} for group, own in members.items() if own]
        return self._built(found)

    def _built(self, trained: list[Any]) -> torch.optim.Optimizer | None:
        if not trained:
            return None
        try:
            with without_compiler():
                return _classes()[self.name](trained, lr=self.lr, **self.options)  # type: ignore[call-arg]
        except (TypeError, LookupError, RuntimeError, AttributeError) as error:
            raise ValueError(
                f"optimizer {self.name} does not take {dict(self.options)}: {error}; see torch.optim for its arguments"
            ) from error
