"""Profiles: the shipped measurements as published, reading and writing, and measuring a model here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from raysplit.models.profiler import measure_profile
from raysplit.schedulers.cuts.profiles import (
    NodeKind,
    Profile,
    UnitProfile,
    load_profile,
    node_kinds,
    owner_times,
    profile_names,
)


@pytest.mark.parametrize(
    ("name", "num_units", "forward_ms", "backward_ms", "update_ms"),
    [
        ("resnet101_mpsl_vm", 37, 302.85, 1659.31, 35.85),
        ("resnet101_mpsl_d1", 37, 17386.2, 77151.4, 996.5),
        ("vgg19_mpsl_vm", 25, 849.79, 3003.00, 150.92),
        ("vgg19_mpsl_d1", 25, 9517.8, 59756.0, 2631.5),
    ],
)
def test_shipped_profiles_sum_to_the_published_totals(
    name: str, num_units: int, forward_ms: float, backward_ms: float, update_ms: float
) -> None:
    profile = load_profile(name)
    assert (f"{profile.model}_{profile.device}", profile.batch_size) == (name, 128)
    assert len(profile.units) == num_units
    assert sum(unit.forward_ms for unit in profile.units) == pytest.approx(forward_ms, abs=0.06)
    assert sum(unit.backward_ms for unit in profile.units) == pytest.approx(backward_ms, abs=0.06)
    assert sum(unit.update_ms for unit in profile.units) == pytest.approx(update_ms, abs=0.06)


@pytest.mark.parametrize(("model", "total_mib"), [("resnet101_mpsl", 196.0), ("vgg19_mpsl", 742.4)])
def test_shipped_profiles_sum_to_the_published_memory(model: str, total_mib: float) -> None:
    for device in ("vm", "d1"):
        units = load_profile(f"{model}_{device}").units
        total = sum(unit.activation_bytes + unit.parameter_bytes for unit in units)
        assert total / 2**20 == pytest.approx(total_mib, abs=0.1)


def test_a_published_row() -> None:
    """Unit 32 of ResNet-101 on the machine: 257.568 KiB of output, 18467.6 KiB of weights."""
    assert load_profile("resnet101_mpsl_vm").units[32] == UnitProfile(
        name="block512.0",
        forward_ms=16.9231,
        backward_ms=155.077,
        update_ms=3.46154,
        activation_bytes=263_750,
        parameter_bytes=18_910_822,
    )


def test_shipped_devices_and_owners() -> None:
    assert profile_names() == ["resnet101_mpsl_d1", "resnet101_mpsl_vm", "vgg19_mpsl_d1", "vgg19_mpsl_vm"]
    small = node_kinds()["vm_8gib_x2"]
    assert (small.memory_bytes, small.slowdown, small.price_per_hour) == (8 * 2**30, 2.0, 0.096)
    d1, slow = owner_times()["d1"], owner_times()["d1_slow"]
    assert (d1.first_forward_ms, d1.last_ms, d1.first_backward_ms) == pytest.approx((242.6, 29.0, 174.3))
    assert slow.first_forward_ms + slow.last_ms + slow.first_backward_ms == pytest.approx(3150)
    assert d1.link_bytes_per_s == 1e6


TINY = Profile(
    model="tiny",
    device="here",
    batch_size=4,
    units=(
        UnitProfile(
            name="a", forward_ms=0.1, backward_ms=1 / 3, update_ms=0.0, activation_bytes=7, parameter_bytes=10**10
        ),
        UnitProfile(name="b", forward_ms=2, backward_ms=3, update_ms=4, activation_bytes=5, parameter_bytes=0),
    ),
)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_is_written_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tiny.{suffix}"
    (TINY.to_csv if suffix == "csv" else TINY.to_parquet)(path)
    assert load_profile(path) == TINY


def test_bad_profiles(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"no profile 'vgg19_mpsl_d2'; did you mean 'vgg19_mpsl_d1'\?; give .*raysplit profile",
    ):
        load_profile("vgg19_mpsl_d2")
    path = tmp_path / "wrong.csv"
    path.write_text("unit,forward_ms\na,1\n")
    with pytest.raises(
        ValueError, match=r"wrong.csv is not a profile: 'backward_ms'; it needs rows with the columns model"
    ):
        load_profile(path)
    path.write_text("")
    with pytest.raises(ValueError, match="is not a profile"):
        load_profile(path)
    with pytest.raises(ValueError, match="unit 'a' has forward_ms -1; times and sizes"):
        replace(TINY.units[0], forward_ms=-1)
    with pytest.raises(ValueError, match="has no units; measure one"):
        replace(TINY, units=())
    with pytest.raises(ValueError, match="costs -1 per hour"):
        NodeKind(name="vm", memory_bytes=1, price_per_hour=-1)


def test_measuring_a_chain() -> None:
    """Four units; bytes follow from shapes, a unit without weights needs no update worth the name."""
    torch.manual_seed(0)
    chain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 3))
    profile = measure_profile(chain, name="small", input_shape=(1, 8, 8), batch_size=5, repeats=2, device="here")
    assert (profile.model, profile.device, profile.batch_size) == ("small", "here", 5)
    assert [unit.name for unit in profile.units] == ["0", "1", "2", "3"]
    assert [unit.activation_bytes for unit in profile.units] == [4 * 5 * 144, 4 * 5 * 144, 4 * 5 * 144, 4 * 5 * 3]
    assert [unit.parameter_bytes for unit in profile.units] == [4 * 40, 0, 0, 4 * (144 * 3 + 3)]
    assert all(unit.forward_ms > 0 and unit.backward_ms > 0 for unit in profile.units)


class _Residual(nn.Module):
    """Inside the shortcut two tensors cross a cut."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        return h + self.second(h)


def test_measuring_any_model() -> None:
    profile = measure_profile(_Residual(), name="residual", input_shape=(3,), batch_size=2, repeats=1)
    assert [unit.activation_bytes for unit in profile.units] == [4 * 2 * 3, 2 * 4 * 2 * 3, 4 * 2 * 3]
    assert [unit.parameter_bytes for unit in profile.units] == [4 * 12, 4 * 12, 0]
    with pytest.raises(ValueError, match="repeats is 0 and batch_size is 2; both must be at least 1"):
        measure_profile(_Residual(), name="residual", input_shape=(3,), batch_size=2, repeats=0)


class TwoAnswers(nn.Module):
    """An answer for each of two tasks, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.shape, self.size = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        z = torch.relu(self.hidden(x))
        return {"shape": self.shape(z), "size": self.size(z)}


def test_a_model_that_names_its_answers_is_measured() -> None:
    """``raysplit profile`` of a model with a head for each task ended in "'dict' object has no attribute 'numel'"."""
    profile = measure_profile(TwoAnswers(), name="two", input_shape=(4,), batch_size=2, repeats=1)
    assert profile.units[-1].activation_bytes == 2 * (3 + 1) * 4
    assert profile.units[-1].activation_shapes == ("3 float32", "1 float32")
