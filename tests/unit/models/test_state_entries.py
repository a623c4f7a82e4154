"""`entries_of`: the same state as torch's own reading, found once; torch's own reading where a class takes part."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raysplit.models.frozen import load_trained, trained_state
from raysplit.models.state_entries import entries_of, names_of, parameters_of, tensors_of


class Shared(nn.Module):
    """Tied weights, a buffer that is saved and one that is not, an absent bias, a module that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 3, bias=False)
        self.body = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), self.embed)
        self.head = nn.Linear(3, 3)
        self.head.weight = self.embed.weight
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("mask", torch.ones(3), persistent=False)
        self.register_parameter("extra", None)


@pytest.mark.parametrize("make", [Shared, lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 2))])
def test_names_order_and_tensors_are_those_of_torch(make: Any) -> None:
    module = make()
    own, torchs = trained_state(module), module.state_dict()
    assert list(own) == list(torchs) == names_of(module)
    assert all(own[name].data_ptr() == torchs[name].data_ptr() for name in own)
    assert all(a is b for a, b in zip(parameters_of(module), module.parameters(), strict=True))
    assert all(a is b for a, b in zip(tensors_of(module), [*module.parameters(), *module.buffers()], strict=True))


def test_a_tensor_that_is_replaced_is_found() -> None:
    module = Shared()
    trained_state(module)
    module.mean = torch.full((3,), 7.0)
    module.head.bias = nn.Parameter(torch.full((3,), 8.0))
    assert torch.equal(trained_state(module)["mean"], torch.full((3,), 7.0))
    assert torch.equal(trained_state(module)["head.bias"], torch.full((3,), 8.0))


def test_a_module_that_grows_and_hooks_are_noticed() -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    trained_state(module)
    module.append(nn.Linear(2, 2))
    assert list(trained_state(module)) == list(module.state_dict())

    def hook(module: nn.Module, state: dict[str, Tensor], prefix: str, local: Any) -> None:
        state["more"] = torch.ones(1)

    module.register_state_dict_post_hook(hook)
    assert "more" in trained_state(module)


def test_classes_that_save_their_own_way_are_left_to_torch() -> None:
    class Own(nn.Linear):
        def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
            destination[prefix + "packed"] = self.weight.detach() * 2

    assert entries_of(Own(2, 2)) is None
    assert list(trained_state(Own(2, 2))) == ["packed"]
    assert entries_of(nn.BatchNorm1d(2)) is None  # its class reads older states


def test_frozen_weights_stay_out() -> None:
    module = Shared()
    module.body[0].weight.requires_grad_(False)
    assert "body.0.weight" not in trained_state(module)


def test_a_state_of_another_shape_or_with_other_names_is_refused() -> None:
    module = nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_trained(module, {"weight": torch.ones(1), "bias": torch.ones(2)})
    with pytest.raises(KeyError, match="bias"):
        load_trained(module, {"weight": torch.ones(2, 2)})
    load_trained(module, {"weight": torch.ones(2, 2), "bias": torch.ones(2)})
    assert torch.equal(module.weight, torch.ones(2, 2))


def test_what_is_found_does_not_keep_a_module_alive() -> None:
    module = Shared()
    trained_state(module)
    gone = weakref.ref(module)
    del module
    gc.collect()
    assert gone() is None
