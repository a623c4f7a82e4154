"""The places of the networks have the names and numbers that configurations and run folders have had from the start."""

from __future__ import annotations

import hashlib

import pytest

from raysplit.models.spec import ModelSpec

PLACES = {  # picture, places, whole units, digest of all names, numbers and bytes
    "mlp": ((1, 8, 8), 3, 1, "0434d0b552b75046"),
    "mlp_small": ((1, 8, 8), 5, 2, "d60b584763a1031d"),
    "mlp_28": ((1, 28, 28), 5, 2, "44f7ef80e143a79c"),
    "cnn8": ((1, 8, 8), 8, 3, "b3be1b5ea6e412b2"),
    "cnn": ((1, 28, 28), 9, 3, "bb3c249411bb0e85"),
    "cnn4": ((1, 28, 28), 9, 3, "86e37034c09e9132"),
    "cnn_cifar": ((3, 32, 32), 12, 4, "f2695b1c4e1e449e"),
    "resnet18_cifar": ((3, 32, 32), 67, 4, "4b697ac292d0ca85"),
    "resnet101_mpsl": ((3, 32, 32), 243, 36, "4120841b97c8ef6b"),
    "vgg19_mpsl": ((3, 32, 32), 45, 24, "14c8b367123f2025"),
    "resnet18": ((3, 32, 32), 68, 68, "ee3a43174a9adc58"),
}
LARGE = ("resnet18_cifar", "resnet101_mpsl", "vgg19_mpsl", "resnet18")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LARGE else n for n in PLACES])
def test_places_keep_their_names_and_numbers(name: str) -> None:
    input_shape, num_places, num_units, digest = PLACES[name]
    points = ModelSpec(name=name, input_shape=input_shape, num_classes=10, seed=0).cut_points()
    lines = [f"{point.index} {point.name} {point.unit} {point.num_bytes_per_sample}" for point in points]
    assert len(points) == num_places, lines
    assert max(point.unit or 0 for point in points) == num_units
    assert hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest() == digest, lines
