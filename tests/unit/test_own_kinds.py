"""Names and objects of one's own are of the kind that a setting expects, which is said before anything is called."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from torch import nn

from raysplit.actors.parts.losses import resolve_loss
from raysplit.data.partition.laws import partition
from raysplit.models.zoo import build_model
from raysplit.runs.callback import Callback, Callbacks


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("ownkinds")
    module.Thing = type("Thing", (), {"__module__": "ownkinds", "__init__": lambda self, *_, **__: pytest.fail("made")})
    module.Loss = type("Loss", (nn.Module,), {"__module__": "ownkinds"})
    monkeypatch.setitem(sys.modules, "ownkinds", module)


def test_a_class_that_is_no_model_is_not_made() -> None:
    """An algorithm given as the model was made, and ended in its own options' error."""
    with pytest.raises(ValueError, match=r"must be a function or a subclass of torch\.nn\.Module, got the class Thing"):
        build_model("ownkinds:Thing", input_shape=(2,), num_classes=2)


@pytest.mark.parametrize("name", ["ownkinds:Thing", "ownkinds:Loss", "torch.nn:CrossEntropyLoss"])
def test_a_class_is_no_loss(name: str) -> None:
    """``torch.nn:CrossEntropyLoss`` was called with the outputs as its weights."""
    with pytest.raises(
        ValueError, match=r"must be a function, which is called with the model's outputs and the targets"
    ):
        resolve_loss(name)


def test_a_class_is_no_partition() -> None:
    with pytest.raises(ValueError, match=r"partition 'ownkinds:Thing' must be a function, .* got the class Thing"):
        partition("ownkinds:Thing", np.array([0, 1, 0, 1]), 2, seed=1)


def test_what_is_no_callback_is_refused() -> None:
    """A function as a callback ended in an AttributeError after the model had been made."""
    with pytest.raises(ValueError, match=r"objects of subclasses of raysplit.Callback, got .*; make one: Callback\(\)"):
        Callbacks([Callback])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"objects of subclasses of raysplit.Callback, got <built-in function print>"):
        Callbacks([print])  # type: ignore[list-item]


class Leaving(Callback):
    """Ends the program wherever it is told something."""

    def round_ended(self, row: Any) -> None:
        raise SystemExit(0)

    def run_failed(self, error: BaseException) -> None:
        raise SystemExit(0)


def test_a_callback_cannot_end_the_program(caplog: pytest.LogCaptureFixture) -> None:
    """A callback that left took the place of the error of the run, and of the whole run with ``continue``."""
    Callbacks([Leaving()], on_error="continue").round_ended({})
    Callbacks([Leaving()]).run_failed(ValueError("the run's own"))
    assert caplog.text.count("Leaving.r") == 2
