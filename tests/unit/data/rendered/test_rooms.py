"""Geometry of the rendered rooms with answers from plane and solid geometry, and the data set made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raysplit.data.rendered import raycast
from raysplit.data.rendered.raycast import Solid, Vector, room_hit, solid_hit
from raysplit.data.rendered.room_images import (
    HEIGHT_M,
    cast_views,
    draw_building,
    draw_view,
    edge_strength,
    render,
    texture_targets,
)
from raysplit.data.rendered.rooms import rooms


def column(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float64)[:, None]


def vector(*numbers: float) -> Vector:
    return [column(number) for number in numbers]


def solid(*size: float, x: float = 0.0, y: float = 0.0, turn_rad: float = 0.0) -> Solid:
    first, second, third = (column(number) for number in size)
    return Solid(x=column(x), y=column(y), turn_rad=column(turn_rad), size=(first, second, third))


@pytest.mark.parametrize(
    ("ray", "depth", "number"),
    [
        ((-1, 0, 0), 4.0, 0),
        ((1, 0, 0), 2.0, 1),
        ((0, -1, 0), 3.0, 2),
        ((0, 1, 0), 3.0, 3),
        ((0.1, 0.1, -1), 1.0, 4),
        ((0, 0, 1), 1.6, 5),
    ],
)
def test_a_ray_meets_the_nearest_wall(ray: tuple[float, ...], depth: float, number: int) -> None:
    found, surface = room_hit(vector(1, 0, 1), vector(*ray), np.array(3.0), 2.6)
    assert found[0, 0] == pytest.approx(depth)
    assert surface[0, 0] == number


@pytest.mark.parametrize(
    ("kind", "shape", "origin", "ray", "depth", "normal", "curvature"),
    [
        (raycast.BOX, solid(1, 2, 1), (-5, 0, 0.5), (1, 0, 0), 4, (-1, 0, 0), (0, 0)),
        (raycast.BOX, solid(1, 2, 1, turn_rad=np.pi / 2), (-5, 0, 0.5), (1, 0, 0), 3, (-1, 0, 0), (0, 0)),
        (raycast.BOX, solid(1, 2, 1, x=1), (1, 0, 3), (0, 0, -1), 2, (0, 0, 1), (0, 0)),
        (raycast.BOX, solid(1, 2, 1), (-5, 0, 1.5), (1, 0, 0), np.inf, None, None),
        (raycast.BOX, solid(1, 2, 1), (-5, 0, 0.5), (-1, 0, 0), np.inf, None, None),
        (raycast.CYLINDER, solid(0.5, 0, 2), (-5, 0, 1), (1, 0, 0), 4.5, (-1, 0, 0), (2, 0)),
        (raycast.CYLINDER, solid(0.5, 0, 2), (0.1, 0, 3), (0.1, 0, -1), 1, (0, 0, 1), (0, 0)),
        (raycast.CYLINDER, solid(0.5, 0, 2), (-5, 0, 2.5), (1, 0, 0), np.inf, None, None),
        (raycast.SPHERE, solid(0.5, 0, 1, y=1), (0, -4, 1.5), (0, 1, 0), 4.5, (0, -1, 0), (2, 2)),
        (raycast.SPHERE, solid(0.5, 0, 0), (0, 0, 4), (0, 0, -1), 3, (0, 0, 1), (2, 2)),
        (raycast.SPHERE, solid(0.5, 0, 0), (-5, 0, 0.5), (-1, 0, 0), np.inf, None, None),
        (raycast.CAPSULE, solid(0.25, 1, 0), (0.5, -4, 0.25), (0, 1, 0), 3.75, (0, -1, 0), (4, 0)),
        (raycast.CAPSULE, solid(0.25, 1, 0), (-5, 0, 0.25), (1, 0, 0), 3.75, (-1, 0, 0), (4, 4)),
        (raycast.CAPSULE, solid(0.25, 1, 0, turn_rad=np.pi / 2), (0, -5, 0.25), (0, 1, 0), 3.75, (0, -1, 0), (4, 4)),
        (raycast.CAPSULE, solid(0.25, 1, 0), (-5, 0, 0.6), (1, 0, 0), np.inf, None, None),
        (raycast.STANDING_CAPSULE, solid(0.25, 0, 1), (-5, 0, 0.75), (1, 0, 0), 4.75, (-1, 0, 0), (4, 0)),
        (raycast.STANDING_CAPSULE, solid(0.25, 0, 1), (0, 0, 5), (0, 0, -1), 3.5, (0, 0, 1), (4, 4)),
        (raycast.STANDING_CAPSULE, solid(0.25, 0, 1), (-5, 0, 1.6), (1, 0, 0), np.inf, None, None),
    ],
)
def test_rays_meet_solids_where_geometry_says(
    kind: int,
    shape: Solid,
    origin: tuple[float, ...],
    ray: tuple[float, ...],
    depth: float,
    normal: tuple[float, ...] | None,
    curvature: tuple[float, ...] | None,
) -> None:
    hit = solid_hit(kind, shape, vector(*origin), vector(*ray))
    assert hit.depth[0, 0] == pytest.approx(depth)
    if normal is not None and curvature is not None:
        assert [float(part[0, 0]) for part in hit.normal] == pytest.approx(normal, abs=1e-8)
        assert [float(part[0, 0]) for part in hit.curvature] == pytest.approx(curvature)


SIZE = 40


@pytest.fixture(scope="module")
def seen() -> list[dict[str, np.ndarray]]:
    """Eight images of four buildings in double precision: rendered targets with what the rays met."""
    found = []
    for building in range(4):
        setting = draw_building(7, building)
        views = [draw_view(7, building, index, setting) for index in range(2)]
        surfaces = cast_views(setting, views, SIZE, np.float64)
        shape = (2, SIZE + 2, SIZE + 2)
        found.append(
            {
                **render(7, building, range(2), SIZE, np.float64),
                "surface": surfaces.surface.reshape(shape),
                "depth": surfaces.depth.reshape(shape),
                "normal": np.stack(surfaces.normal, axis=1).reshape(2, 3, *shape[1:]),
                "point": np.stack(surfaces.point, axis=1).reshape(2, 3, *shape[1:]),
            }
        )
    return found


def same_plane_around(image: dict[str, np.ndarray]) -> np.ndarray:
    """Pixels [n, S, S] on a wall, the floor or the ceiling whose four neighbours are on the same one."""
    surface = image["surface"]
    middle = surface[:, 1:-1, 1:-1]
    around = [surface[:, 1:-1, 2:], surface[:, 1:-1, :-2], surface[:, 2:, 1:-1], surface[:, :-2, 1:-1]]
    same: np.ndarray = np.logical_and.reduce([middle == other for other in around]) & (middle < 6)
    return same


def test_planes_have_no_edges_and_no_curvature(seen: list[dict[str, np.ndarray]]) -> None:
    num_pixels = 0
    for image in seen:
        plane = same_plane_around(image)
        strength = edge_strength(1 / image["depth"])
        assert strength[plane].max() < 1e-12
        assert image["e"][:, 0][plane].max() < 1e-10
        assert np.abs(image["c"].transpose(0, 2, 3, 1)[plane]).max() == 0
        num_pixels += int(plane.sum())
    assert num_pixels > 5000


def test_edges_appear_where_an_object_covers_what_lies_behind(seen: list[dict[str, np.ndarray]]) -> None:
    for image in seen:
        surface, depth = image["surface"], image["depth"]
        jump = (surface[:, 1:-1, 1:-1] > 5) & (depth[:, 1:-1, 2:] > 1.3 * depth[:, 1:-1, 1:-1])
        jump &= surface[:, 1:-1, 2:] < 6
        assert (image["e"][:, 0][jump] == 1).all()


def test_normals_have_unit_length_and_face_the_camera(seen: list[dict[str, np.ndarray]]) -> None:
    center = (np.arange(SIZE) * 2 + 1 - SIZE) / SIZE * np.tan(np.radians(35))
    for image in seen:
        n = image["n"]
        np.testing.assert_allclose((n**2).sum(axis=1), 1, atol=1e-12)
        toward = n[:, 2] - n[:, 0] * center[None, None, :] + n[:, 1] * center[None, :, None]
        assert toward.min() > -1e-6


def test_hits_lie_on_their_surfaces(seen: list[dict[str, np.ndarray]]) -> None:
    for building, image in enumerate(seen):
        half_width = draw_building(7, building).half_width_m
        planes = [(0, -half_width), (0, half_width), (1, -half_width), (1, half_width), (2, 0.0), (2, HEIGHT_M)]
        for number, (axis, place) in enumerate(planes):
            on_plane = image["point"][:, axis][image["surface"] == number]
            np.testing.assert_allclose(on_plane, place, atol=1e-12)
        x, y, z = image["point"].transpose(1, 0, 2, 3)
        assert max(np.abs(x).max(), np.abs(y).max()) <= half_width + 1e-12
        assert z.min() > -1e-12
        assert z.max() < HEIGHT_M + 1e-12


def test_targets_follow_from_each_other(seen: list[dict[str, np.ndarray]]) -> None:
    for building, image in enumerate(seen):
        light = draw_building(7, building).light
        lit = np.tensordot(light, image["normal"], axes=(0, 1))[:, 1:-1, 1:-1]
        np.testing.assert_allclose(image["r"][:, 0], 0.25 + 0.75 * np.maximum(lit, 0), atol=1e-12)
        np.testing.assert_allclose(np.exp(image["d"][:, 0]) - 1, image["depth"][:, 1:-1, 1:-1])
        classes = np.array([3, 3, 3, 3, 1, 2, 4, 5, 6, 7])[image["surface"][:, 1:-1, 1:-1]]
        assert np.array_equal(image["s"], classes)
        round_ones = image["s"] == 6
        first, second = image["c"][:, 0][round_ones], image["c"][:, 1][round_ones]
        assert np.array_equal(first, second)
        assert (first > 0).all()


def test_shapes_types_and_ranges() -> None:
    found = render(0, 0, range(3), 32)
    shapes = {letter: values.shape[1:] for letter, values in found.items()}
    assert shapes == {
        "a": (3, 32, 32),
        "s": (32, 32),
        "d": (1, 32, 32),
        "n": (3, 32, 32),
        "e": (1, 32, 32),
        "r": (1, 32, 32),
        "k": (1, 32, 32),
        "t": (1, 32, 32),
        "c": (2, 32, 32),
    }
    assert {letter: values.dtype for letter, values in found.items() if letter != "s"} == dict.fromkeys(
        "adnerktc", np.dtype(np.float32)
    )
    assert found["s"].dtype == np.uint8
    for letter in "aerktc":
        assert found[letter].min() >= 0
        assert found[letter].max() <= 1


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    alone, together = render(3, 5, [9], 32), render(3, 5, range(8, 12), 32)
    for letter, values in alone.items():
        assert np.array_equal(values[0], together[letter][1])
    assert not np.array_equal(render(4, 5, [9], 32)["a"], alone["a"])
    assert not np.array_equal(render(3, 6, [9], 32)["a"], alone["a"])


def test_gray_ramp_has_the_expected_texture() -> None:
    """On a ramp of slope 1 / 64 per pixel the Sobel magnitude over 8 is the slope; a ramp has no corners."""
    ramp = np.tile(np.arange(64) / 64, (1, 64, 1))
    texture, corners = texture_targets(ramp)
    np.testing.assert_allclose(texture[:, 8:-8, 8:-8], 1 / 64, atol=1e-12)
    assert corners[:, 10:-10, 10:-10].max() < 1e-6


def small(**changes: object) -> dict[str, object]:
    return {"num_buildings": 2, "num_train": 6, "num_val": 2, "num_test": 3, "image_size": 16, "seed": 1} | changes


def test_owners_splits_and_standardised_targets() -> None:
    data = rooms(**small(tasks=tuple("sdnkterca")))  # type: ignore[arg-type]
    assert data.owners == ("building-000", "building-001")
    assert [len(side["building-001"]) for side in (data.train, data.val, data.test)] == [6, 2, 3]
    for task in "dnkterca":
        together = torch.cat([samples.y[task] for samples in data.train.values()]).double()
        torch.testing.assert_close(together.mean((0, 2, 3)), torch.zeros(together.shape[1]).double(), atol=1e-5, rtol=0)
        std = together.std((0, 2, 3), correction=0)
        torch.testing.assert_close(std, torch.ones(together.shape[1]).double(), atol=1e-4, rtol=0)
    first = data.train["building-000"]
    assert first.x.dtype == torch.float32
    assert first.y["s"].dtype == torch.uint8
    assert torch.equal(first.x, torch.from_numpy(render(1, 0, range(6), 16)["a"]))


def test_splits_share_no_image() -> None:
    data = rooms(**small(tasks=("s",)))  # type: ignore[arg-type]
    images = [x.numpy().tobytes() for side in (data.train, data.val, data.test) for s in side.values() for x in s.x]
    assert len(set(images)) == len(images) == 2 * 11


def test_the_cache_gives_the_same_bits(tmp_path: Path) -> None:
    plain = rooms(**small())  # type: ignore[arg-type]
    for _ in range(2):
        cached = rooms(**small(cache=tmp_path / "rooms"))  # type: ignore[arg-type]
        assert cached.scales == plain.scales
        for owner in plain.owners:
            assert torch.equal(cached.test[owner].x, plain.test[owner].x)
            for task in "sdnkt":
                assert torch.equal(cached.train[owner].y[task], plain.train[owner].y[task])
    assert len(list((tmp_path / "rooms").iterdir())) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ("x",)}, "letters of s"),
        ({"tasks": ()}, "letters of s"),
        ({"num_buildings": 0}, "num_buildings and num_train must be at least 1"),
        ({"num_train": 0}, "num_buildings and num_train must be at least 1"),
        ({"num_val": -1}, "num_buildings and num_train must be at least 1"),
    ],
)
def test_errors_name_the_rule(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rooms(**small(**changes))  # type: ignore[arg-type]
