"""3D Shapes: numbering, split, rendering, cache, the published file's reader and the two noises."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from raysplit.data.noise import NormalDrawNoise, UniformDrawNoise, noise_named
from raysplit.data.rendered.shapes3d import BlockCache, H5File, Rendered, load_shapes3d, picture_source
from raysplit.data.rendered.shapes3d_grid import FACTORS, GRIDS, Grid
from raysplit.data.rendered.shapes3d_render import SHAPES, Geometry, Surface, color_in, hue_color, trace, weights

FULL, REDUCED = GRIDS["full"], GRIDS["reduced"]
TINY = Grid(sizes=(2, 2, 2, 2, 2, 3))


def test_numbers_and_factors_are_one_to_one_and_the_last_factor_is_fastest() -> None:
    everything = np.arange(480_000)
    assert len(FULL) == 480_000
    factors = FULL.factors(everything)
    assert factors[:3].tolist() == [[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 2]]
    assert factors[15].tolist() == [0, 0, 0, 0, 1, 0]
    assert factors[-1].tolist() == [9, 9, 9, 7, 3, 14]
    assert factors.max(axis=0).tolist() == [9, 9, 9, 7, 3, 14]
    steps = np.array([48_000, 4_800, 480, 60, 15, 1])
    assert np.array_equal(factors @ steps, everything)
    assert np.array_equal(FULL.indices(factors), everything)
    for outside in (-1, 480_000):
        with pytest.raises(ValueError, match="out of bounds"):
            FULL.factors(np.array([outside]))


def test_the_split_holds_out_pairs_of_upper_hues() -> None:
    train, test = FULL.split()
    assert (len(train), len(test)) == (360_000, 120_000)
    assert not np.isin(test, train).any()
    seen, held = FULL.factors(train), FULL.factors(test)
    assert not ((seen[:, 0] >= 5) & (seen[:, 1] >= 5)).any()
    assert held[:, :2].min() == 5
    assert np.bincount(held[:, 3]).tolist() == [15_000] * 8
    assert np.bincount(held[:, 4]).tolist() == [30_000] * 4
    assert np.bincount(seen[:, 3]).tolist() == [45_000] * 8
    assert np.bincount(seen[:, 4]).tolist() == [90_000] * 4


def test_the_reduced_grid_has_the_same_shape_of_split() -> None:
    train, test = REDUCED.split()
    assert (len(REDUCED), len(train), len(test)) == (10_240, 7_680, 2_560)


def test_class_names_are_the_values() -> None:
    assert FULL.class_names("shape") == ("box", "cylinder", "sphere", "capsule")
    assert FULL.class_names("scale")[0] == "0.750"
    assert FULL.class_names("scale")[7] == "1.250"
    assert FULL.class_names("orientation")[::7] == ("-30.0", "+0.0", "+30.0")
    assert FULL.class_names("floor_hue")[9] == "0.90"


def test_pure_hues() -> None:
    assert [hue_color(h / 6) for h in range(6)] == [
        pytest.approx(rgb) for rgb in [(1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1)]
    ]


@pytest.mark.parametrize(
    ("shape", "smallest", "middle", "largest"),
    [("box", 265, 465, 677), ("cylinder", 196, 355, 572), ("sphere", 164, 304, 491), ("capsule", 138, 257, 423)],
)
def test_objects_cover_the_calibrated_areas(shape: str, smallest: int, middle: int, largest: int) -> None:
    """Pixels of 4,096, counted by an independent prototype of the same scene."""
    areas = []
    for scale, turned in ((0.75, -30.0), (1.0, 0.0), (1.25, 30.0)):
        ids, _ = trace(Geometry(shape=shape, scale=scale, orientation_degrees=turned))
        areas.append((ids == Surface.OBJECT).sum() / 4)
    assert areas == pytest.approx([smallest, middle, largest], rel=0.015)


@pytest.mark.parametrize("shape", range(4))
@pytest.mark.parametrize("orientation", [0, 5, 7, 14])
def test_an_object_grows_with_its_scale(shape: int, orientation: int) -> None:
    areas = [(trace(FULL.geometry(k, shape, orientation))[0] == Surface.OBJECT).sum() for k in range(8)]
    assert all(np.diff(areas) > 0)


@pytest.mark.parametrize("shape", ["cylinder", "sphere", "capsule"])
@pytest.mark.parametrize("orientation", range(8))
def test_turning_the_other_way_mirrors_what_is_seen(shape: str, orientation: int) -> None:
    kind = SHAPES.index(shape)
    left, _ = trace(FULL.geometry(2, kind, orientation))
    right, _ = trace(FULL.geometry(2, kind, 14 - orientation))
    assert np.array_equal(left, right[:, ::-1])


def test_a_surfaces_color_changes_its_own_pixels_alone() -> None:
    parts = weights(Geometry(shape="box", scale=1.0, orientation_degrees=10.0))
    colors = np.array([[hue_color(0.1), hue_color(0.5), hue_color(0.8)]] * 4, np.float32)
    for surface in range(3):
        colors[surface + 1, surface] = hue_color(0.3)
    pictures = color_in(parts, colors)
    for surface in range(3):
        changed = (pictures[surface + 1] != pictures[0]).any(axis=-1)
        assert changed.any()
        assert not (changed & (parts[surface] == 0)).any()


def test_shading_is_ambient_plus_lambert() -> None:
    """The light's direction is (-0.4, -0.6, 0.9) / sqrt(1.33): floor 0.857, back wall 0.688, left wall in the dark."""
    ids, shade = trace(Geometry(shape="sphere", scale=0.75, orientation_degrees=0.0))
    norm = 1.33**0.5
    assert np.allclose(shade[ids == Surface.FLOOR], 0.35 + 0.65 * 0.9 / norm)
    assert np.isclose(shade[0, 64], 0.35 + 0.65 * 0.6 / norm)
    left, _ = trace(Geometry(shape="sphere", scale=0.75, orientation_degrees=30.0))
    shade_left = trace(Geometry(shape="sphere", scale=0.75, orientation_degrees=30.0))[1]
    assert left[0, 0] == Surface.WALL
    assert np.isclose(shade_left[0, 0], 0.35)


def test_a_picture_depends_on_its_number_alone() -> None:
    numbers = np.random.default_rng(0).choice(480_000, 40, replace=False)
    together = Rendered(FULL).pictures(numbers)
    other = Rendered(FULL)
    assert together.shape == (40, 64, 64, 3)
    for place in np.random.default_rng(1).permutation(40):
        assert np.array_equal(other.pictures(numbers[place : place + 1])[0], together[place])


def test_blocks_are_written_once_and_read_back(tmp_path: Path) -> None:
    rendered = Rendered(TINY)
    cache = BlockCache(rendered, len(TINY), tmp_path / "blocks", block_size=20)
    numbers = np.array([95, 3, 3, 41, 0])
    assert np.array_equal(cache.pictures(numbers), rendered.pictures(numbers))
    assert sorted(p.name for p in (tmp_path / "blocks").iterdir()) == ["000000.arrow", "000002.arrow", "000004.arrow"]

    class Broken:
        def pictures(self, indices: np.ndarray) -> np.ndarray:
            raise AssertionError("a cached block is drawn again")

    again = BlockCache(Broken(), len(TINY), tmp_path / "blocks", block_size=20)
    assert np.array_equal(again.pictures(numbers), rendered.pictures(numbers))


def test_a_damaged_block_is_named(tmp_path: Path) -> None:
    cache = BlockCache(Rendered(TINY), len(TINY), tmp_path, block_size=20)
    (tmp_path / "000000.arrow").write_bytes(b"not arrow")
    with pytest.raises(ValueError, match=r"000000\.arrow is not a block of pictures .* delete it"):
        cache.pictures(np.array([1]))


@pytest.mark.parametrize("tasks", [("scale", "shape"), ("orientation",), FACTORS])
def test_any_factors_can_be_the_tasks(tasks: tuple[str, ...]) -> None:
    data = load_shapes3d(grid="reduced", tasks=tasks, num_train=50, num_test=20, seed=3)
    assert data.train.x.shape == (50, 3, 64, 64)
    assert data.train.x.dtype == torch.uint8
    assert list(data.test.y) == list(tasks)
    again = load_shapes3d(grid="reduced", tasks=tasks, num_train=50, num_test=20, seed=3)
    other = load_shapes3d(grid="reduced", tasks=tasks, num_train=50, num_test=20, seed=4)
    assert data.train.x.equal(again.train.x)
    assert not data.train.x.equal(other.train.x)
    for task, names in data.classes.items():
        assert data.train.y[task].min() >= 0
        assert data.train.y[task].max() < len(names)


def test_labels_belong_to_their_pictures(tmp_path: Path) -> None:
    """The object's hue is 0 for red: with object_hue as the label, red objects are those labelled 0."""
    data = load_shapes3d(grid="reduced", cache=tmp_path, tasks=("object_hue",), num_train=60, num_test=4)
    center = data.train.x[:, :, 34, 32]  # a pixel of the object in every picture
    red = (center[:, 0] > 0) & (center[:, 1] == 0) & (center[:, 2] == 0)
    assert red.equal(data.train.y["object_hue"] == 0)
    assert [p.name for p in tmp_path.iterdir()] == ["3dshapes-rendered-v1-4x4x4x8x4x5"]


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="unknown grid 'small'; choose full or reduced"):
        load_shapes3d(grid="small")
    with pytest.raises(ValueError, match="unknown task 'size'; 3D Shapes has floor_hue"):
        load_shapes3d(grid="reduced", tasks=("size",))
    with pytest.raises(ValueError, match="each once"):
        load_shapes3d(grid="reduced", tasks=("scale", "scale"))
    with pytest.raises(ValueError, match="num_train is 9000 and there are 7680 train pictures"):
        load_shapes3d(grid="reduced", num_train=9000)
    with pytest.raises(ValueError, match="at most 4 shapes"):
        Grid(sizes=(2, 2, 2, 2, 5, 2))


def test_without_the_published_file_pictures_are_rendered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert isinstance(picture_source(FULL, tmp_path, None), Rendered)
    assert "has no 3dshapes.h5" in caplog.text


def test_the_published_file_is_read_in_the_order_asked(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    pictures = Rendered(TINY).pictures(np.arange(len(TINY)))
    with h5py.File(tmp_path / "3dshapes.h5", "w") as file:
        file["images"] = pictures
    numbers = np.array([40, 2, 2, 95])
    assert np.array_equal(H5File(tmp_path / "3dshapes.h5", TINY).pictures(numbers), pictures[numbers])
    with pytest.raises(ValueError, match="3D Shapes has"):
        H5File(tmp_path / "3dshapes.h5", FULL)


@pytest.mark.parametrize(
    ("noise", "salt", "pepper", "salt_share", "pepper_share"),
    [
        (NormalDrawNoise(threshold=0.08), 0.98, 0.02, 0.5319, 0.1788),
        (UniformDrawNoise(probability=0.05), 1.0, 0.0, 0.025, 0.025),
    ],
)
def test_noise_hits_the_known_shares(
    noise: NormalDrawNoise | UniformDrawNoise, salt: float, pepper: float, salt_share: float, pepper_share: float
) -> None:
    x = torch.rand(20, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.25
    stream = torch.Generator().manual_seed(2)
    noisy = noise(x, stream)
    salted, peppered = noisy == torch.tensor(salt), noisy == torch.tensor(pepper)
    for share, expected in ((salted, salt_share), (peppered, pepper_share)):
        sigma = (expected * (1 - expected) / x.numel()) ** 0.5
        assert abs(share.double().mean().item() - expected) < 3 * sigma + 5e-5  # the shares are rounded to 4 places
    survived = ~(salted | peppered)
    assert noisy[survived].equal(x[survived])
    assert not noise(x, stream).equal(noisy), "every access draws anew"
    assert noise(x, torch.Generator().manual_seed(2)).equal(noisy)


def test_noises_have_names() -> None:
    assert noise_named("gauss_0.08") == NormalDrawNoise(threshold=0.08)
    assert noise_named("uniform_0.05") == UniformDrawNoise(probability=0.05)
    for name, match in [("salt", "unknown noise 'salt'"), ("gauss_0.6", "too strong"), ("uniform_1.5", "too strong")]:
        with pytest.raises(ValueError, match=match):
            noise_named(name)
    data = load_shapes3d(grid="reduced", num_train=4, num_test=4, noise="uniform_0.5")
    stream = torch.Generator().manual_seed(0)
    clean = load_shapes3d(grid="reduced", num_train=4, num_test=4)
    x = data.train.x
    assert clean.transform(x, stream).equal(x.float() / 255)
    share = (data.eval_transform(x, stream) != x.float() / 255).double().mean()
    assert 0.3 < share < 0.5
