"""Batch transforms: exact on drawn examples, picklable, and random only through the given generator."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor

from raysplit.data.domains import domain, domain_names
from raysplit.data.transforms import (
    ColourMap,
    Compose,
    GaussianNoise,
    Invert,
    Normalise,
    PixelPermutation,
    RandomCrop,
    RandomHorizontalFlip,
    Rotation,
    ToUnit,
    Transform,
    with_domain,
)
from raysplit.seeding import torch_generator

DETERMINISTIC = [
    ToUnit(),
    Normalise(mean=(0.5,), std=(0.5,)),
    PixelPermutation(seed=3),
    Rotation(angle_deg=30),
    ColourMap(matrix=((0, 0, 1), (0, 1, 0), (1, 0, 0))),
    Invert(),
]
RANDOM = [RandomCrop(padding=2), RandomHorizontalFlip(), GaussianNoise(sigma=0.5)]


def _gen(seed: int = 0) -> torch.Generator:
    return torch_generator(seed, "test")


def _images(num: int = 8) -> Tensor:
    return torch.rand(num, 3, 6, 6, generator=_gen(9))


@pytest.mark.parametrize("transform", [*DETERMINISTIC, *RANDOM], ids=lambda t: type(t).__name__)
def test_every_transform_keeps_the_shape_gives_float32_and_pickles(transform: Transform) -> None:
    y = transform(_images(), _gen())
    assert (y.shape, y.dtype) == ((8, 3, 6, 6), torch.float32)
    again = pickle.loads(pickle.dumps(transform))
    assert again == transform
    assert torch.equal(again(_images(), _gen()), y)


@pytest.mark.parametrize("transform", DETERMINISTIC, ids=lambda t: type(t).__name__)
def test_deterministic_transforms_draw_nothing(transform: Transform) -> None:
    gen = _gen()
    before = gen.get_state()
    transform(_images(), gen)
    assert torch.equal(gen.get_state(), before)


@pytest.mark.parametrize("transform", RANDOM, ids=lambda t: type(t).__name__)
def test_random_transforms_follow_the_generator(transform: Transform) -> None:
    y = transform(_images(), _gen(1))
    assert torch.equal(y, transform(_images(), _gen(1)))
    assert not torch.equal(y, transform(_images(), _gen(2)))


def test_unit_scales_bytes_and_leaves_floats() -> None:
    assert ToUnit()(torch.tensor([[0, 51, 255]], dtype=torch.uint8), _gen()).tolist() == [[0, pytest.approx(0.2), 1]]
    assert ToUnit()(torch.tensor([[7.0]], dtype=torch.float64), _gen()).tolist() == [[7.0]]


def test_normalise_is_per_channel() -> None:
    x = torch.tensor([[[[1.0]], [[2.0]]]])  # [1, 2, 1, 1]
    y = Normalise(mean=(0.0, 1.0), std=(2.0, 0.5))(x, _gen())
    assert y.flatten().tolist() == [0.5, 2.0]
    with pytest.raises(ValueError, match="3 means for 2 channels"):
        Normalise(mean=(0.0,) * 3, std=(1.0,) * 3)(x, _gen())


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.0,)), ((0.5,), (1.0, 1.0)), ((), ())])
def test_normalise_refuses_bad_statistics(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="one of each per channel"):
        Normalise(mean=mean, std=std)


def test_every_crop_is_a_window_of_the_padded_image_and_all_places_occur() -> None:
    image = torch.arange(1.0, 10).view(1, 1, 3, 3)
    padded = torch.tensor([[0, 0, 0, 0, 0], [0, 1, 2, 3, 0], [0, 4, 5, 6, 0], [0, 7, 8, 9, 0], [0, 0, 0, 0, 0]]).float()
    windows = {tuple(padded[i : i + 3, j : j + 3].flatten().tolist()) for i in range(3) for j in range(3)}
    crops = RandomCrop(padding=1)(image.expand(300, 1, 3, 3), _gen())
    assert {tuple(crop.flatten().tolist()) for crop in crops} == windows


def test_a_crop_moves_all_channels_together() -> None:
    gray = torch.rand(20, 1, 5, 5, generator=_gen())
    crops = RandomCrop(padding=2)(gray.expand(20, 3, 5, 5), _gen())
    assert torch.equal(crops[:, 0], crops[:, 2])


def test_flips_mirror_whole_images_about_half_of_the_time() -> None:
    x = torch.tensor([[[[1.0, 2.0]]]]).expand(1000, 1, 1, 2)
    first = RandomHorizontalFlip()(x, _gen())[:, 0, 0].tolist()
    assert {tuple(row) for row in first} == {(1.0, 2.0), (2.0, 1.0)}
    assert 430 < first.count([2.0, 1.0]) < 570


def test_permutation_is_a_bijection_of_pixels_shared_by_channels_and_batches() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    y = PixelPermutation(seed=1)(x, _gen())
    assert sorted(y.flatten().tolist()) == list(range(16))
    assert not torch.equal(x, y)
    assert torch.equal(PixelPermutation(seed=1)(x.expand(5, 3, 4, 4), _gen(4)), y.expand(5, 3, 4, 4))
    assert not torch.equal(PixelPermutation(seed=2)(x, _gen()), y)


def test_quarter_turn_is_exact_and_counter_clockwise() -> None:
    x = torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.uint8)
    assert Rotation(angle_deg=90)(x, _gen())[0, 0].tolist() == [[2, 4], [1, 3]]
    assert Rotation(angle_deg=-90)(x, _gen())[0, 0].tolist() == [[3, 1], [4, 2]]
    assert Rotation(angle_deg=360)(x, _gen())[0, 0].tolist() == [[1, 2], [3, 4]]


def test_interpolated_rotation_meets_the_exact_one() -> None:
    x = _images()
    assert torch.allclose(Rotation(angle_deg=90.0001)(x, _gen()), Rotation(angle_deg=90)(x, _gen()), atol=1e-4)
    oblong = torch.arange(8.0).view(1, 1, 2, 4)
    assert Rotation(angle_deg=90)(oblong, _gen())[0, 0].tolist() == [
        [0, pytest.approx(2), pytest.approx(6), 0],
        [0, pytest.approx(1), pytest.approx(5), 0],
    ]


def test_colour_map_swaps_and_adds_channels() -> None:
    x = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    swapped = ColourMap(matrix=((0, 0, 1), (0, 1, 0), (1, 0, 0)))(x, _gen())
    assert swapped.flatten().tolist() == [3, 2, 1]
    assert ColourMap(matrix=((1,), (2,)))(torch.ones(1, 1, 1, 1), _gen()).flatten().tolist() == [1, 2]
    with pytest.raises(ValueError, match="takes 1 channels, the images have 3"):
        ColourMap(matrix=((1,),))(x, _gen())


def test_noise_has_the_asked_spread() -> None:
    noise = GaussianNoise(sigma=0.5)(torch.zeros(100, 1, 20, 20), _gen())
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(0.5, abs=0.01)


def test_domain_goes_between_augmentation_and_normalisation() -> None:
    unit, crop, normalise = ToUnit(), RandomCrop(), Normalise(mean=(0.5,), std=(0.5,))
    assert with_domain(Compose(steps=(unit, crop, normalise)), Invert()).steps == (unit, crop, Invert(), normalise)
    assert with_domain(unit, Invert()).steps == (unit, Invert())
    black = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    assert with_domain(Compose(steps=(unit, normalise)), Invert())(black, _gen()).flatten().tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("name", domain_names())
def test_domains_are_fixed_per_owner_and_differ_between_owners(name: str) -> None:
    def seen(owner: int) -> Tensor:
        return domain(name, owner=owner, num_owners=5, num_channels=3, seed=1)(_images(), _gen())

    assert torch.equal(seen(1), seen(1))
    assert not torch.allclose(seen(0), seen(1))
    assert seen(1).shape == (8, 3, 6, 6)


def test_unknown_domain_is_listed_and_colour_needs_channels() -> None:
    with pytest.raises(ValueError, match=r"unknown domain 'fog' \(one of permutation, quarter_turns"):
        domain("fog", owner=0, num_owners=1, num_channels=1, seed=0)
    with pytest.raises(ValueError, match="mixes channels and the images have 1"):
        domain("colour", owner=0, num_owners=1, num_channels=1, seed=0)
