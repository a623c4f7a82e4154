"""Rendered rooms with nine dense targets per pixel, a stand-in for Taskonomy where no data can be downloaded.

They serve merge-and-split training (Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285). A building has its own size,
colors, textures, mix of objects and light, so owners of different buildings hold statistically different data, as
with real buildings. Every image is a pure function of (seed, building, index) and of the image size.

Targets by letter: s class 1 floor, 2 ceiling, 3 wall, 4 box, 5 cylinder, 6 sphere, 7 capsule (0 is never used);
d log(1 + z-depth); n normal in the camera's frame (right, up, toward the viewer); r 0.25 + 0.75 max(0, n . light);
e occlusion edges, the second difference of inverse depth over it, 0.05 and above giving 1 (inverse depth is affine in
the pixel on a plane, so planes have none); t Sobel magnitude of the smoothed gray image; k square root of the corner
strength det - 0.05 trace^2 of the structure tensor; c (2 / pi) atan of the principal curvatures; a the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import DTypeLike, NDArray

from raysplit.data.rendered.raycast import Array, Solid, Vector, room_hit, solid_hit
from raysplit.seeding import generator

HEIGHT_M = 2.6
HALF_VIEW = np.tan(np.radians(70 / 2))
MAX_OBJECTS = 5
FULL_EDGE = 0.05
CHANNELS = {"d": 1, "n": 3, "e": 1, "r": 1, "k": 1, "t": 1, "c": 2, "a": 3}

# by surface: walls -x +x -y +y, floor, ceiling, then the four kinds of solid
CLASS_OF = np.array([3, 3, 3, 3, 1, 2, 4, 5, 6, 7], dtype=np.uint8)
COLOR_OF = np.array([2, 2, 3, 3, 0, 1, 4, 5, 6, 7])
TEXTURE_OF = np.array([2, 2, 2, 2, 0, 1, 3, 3, 3, 3])


@dataclass(frozen=True, kw_only=True, eq=False)
class Building:
    """Properties shared by all images of one building, hence of one owner."""

    half_width_m: float
    colors: NDArray[np.float64]  # [8, 3]: floor, ceiling, walls in x, walls in y, four kinds of solid
    frequencies: NDArray[np.float64]  # [4], cycles per metre: floor, ceiling, walls, solids
    textures: NDArray[np.int64]  # [4]: 0 checker, 1 diagonal stripes, 2 product of sines
    object_mix: NDArray[np.float64]  # [4]: box, cylinder, sphere, capsule
    light: NDArray[np.float64]  # [3], unit, pointing to the light


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """Camera and objects of one image of a building."""

    position: NDArray[np.float64]  # [3]
    frame: NDArray[np.float64]  # [3, 3]: rows right, up, forward
    kinds: NDArray[np.int64]  # [objects]
    places: NDArray[np.float64]  # [objects, 6]: x, y, turn in radians, three sizes


def draw_building(seed: int, building: int) -> Building:
    """Draw the building with number `building`."""
    rng = generator(seed, "rooms", building)
    hues, light = rng.uniform(0, 1, 8), rng.normal(size=3)
    saturation, value = rng.uniform(0.3, 0.9, 8), rng.uniform(0.7, 1.0, 8)
    wheel = np.clip(np.abs((hues[:, None] * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    light[2] = np.abs(light[2]) + 1
    return Building(
        half_width_m=rng.uniform(2.2, 3.6),
        colors=value[:, None] * (1 - saturation[:, None] * (1 - wheel)),
        frequencies=rng.uniform(1, 4, 4) / 2,
        textures=rng.integers(0, 3, 4),
        object_mix=rng.dirichlet(np.full(4, 0.7)),
        light=light / np.linalg.norm(light),
    )


def draw_view(seed: int, building: int, index: int, setting: Building) -> View:
    """Draw the camera and the objects of image `index`; no object reaches the camera."""
    rng = generator(seed, "rooms", building, "image", index)
    width = setting.half_width_m
    angle, height = rng.uniform(0, 2 * np.pi), rng.uniform(1.2, 1.9)
    position = np.array([0.75 * width * np.cos(angle), 0.75 * width * np.sin(angle), height])
    target = np.array([*rng.uniform(-0.6, 0.6, 2), rng.uniform(0.5, 1.2)])
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.array([forward[1], -forward[0], 0.0])
    right /= np.linalg.norm(right)
    num_objects = int(rng.integers(2, MAX_OBJECTS + 1))
    radius, around = 0.45 * width * np.sqrt(rng.uniform(0, 1, num_objects)), rng.uniform(0, 2 * np.pi, num_objects)
    kinds = rng.choice(4, size=num_objects, p=setting.object_mix)
    low = np.array([[0.15, 0.15, 0.3], [0.12, 0.0, 0.4], [0.15, 0.0, 0.0], [0.1, 0.1, 0.0]])[kinds]
    high = np.array([[0.4, 0.4, 1.2], [0.35, 0.0, 1.6], [0.45, 0.0, 0.5], [0.25, 0.3, 0.0]])[kinds]
    places = np.column_stack([radius * np.cos(around), radius * np.sin(around), rng.uniform(0, np.pi, num_objects)])
    return View(
        position=position,
        frame=np.stack([right, np.cross(right, forward), forward]),
        kinds=kinds,
        places=np.hstack([places, low + (high - low) * rng.uniform(0, 1, (num_objects, 3))]),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Surfaces:
    """First surfaces that the rays hit, arrays [images, (S + 2)^2] with one extra pixel on every side."""

    depth: Array
    normal: Vector  # world frame
    curvature: list[Array]
    surface: NDArray[np.int8]
    point: Vector


def cast_views(setting: Building, views: Sequence[View], image_size: int, dtype: DTypeLike) -> Surfaces:
    """Trace a ray for every pixel of `views`."""
    steps = ((2 * np.arange(image_size + 2) - 1 - image_size) / image_size * HALF_VIEW).astype(dtype)
    across, up = np.tile(steps, image_size + 2), np.repeat(-steps, image_size + 2)
    frames = np.stack([view.frame for view in views]).astype(dtype)[..., None]  # [images, 3, 3, 1]
    ray = [frames[:, 0, axis] * across + frames[:, 1, axis] * up + frames[:, 2, axis] for axis in range(3)]
    positions = np.stack([view.position for view in views]).astype(dtype)
    origin = [positions[:, axis, None] for axis in range(3)]
    depth, surface = room_hit(origin, ray, np.asarray(setting.half_width_m, dtype), HEIGHT_M)
    inward = np.array([[1, -1, 0, 0, 0, 0], [0, 0, 1, -1, 0, 0], [0, 0, 0, 0, 1, -1]], dtype=dtype)
    normal: Vector = [axis[surface] for axis in inward]
    curvature: list[Array] = [np.zeros_like(depth), np.zeros_like(depth)]
    owners = np.concatenate([np.full(len(view.kinds), number) for number, view in enumerate(views)])
    kinds = np.concatenate([view.kinds for view in views])
    places = np.concatenate([view.places for view in views]).astype(dtype)
    for kind in range(4):
        mine = np.flatnonzero(kinds == kind)
        if not len(mine):
            continue
        image = owners[mine]
        x, y, turn, *size = places[mine].T[..., None]
        solid = Solid(x=x, y=y, turn_rad=turn, size=(size[0], size[1], size[2]))
        hit = solid_hit(kind, solid, [o[image] for o in origin], [r[image] for r in ray])
        for row, number in enumerate(image):
            closer = np.flatnonzero(hit.depth[row] < depth[number])
            surface[number, closer] = 6 + kind
            for whole, part in zip([depth, *normal, *curvature], [hit.depth, *hit.normal, *hit.curvature], strict=True):
                whole[number, closer] = part[row, closer]
    point = [o + depth * r for o, r in zip(origin, ray, strict=True)]
    return Surfaces(depth=depth, normal=normal, curvature=curvature, surface=surface, point=point)


def render(
    seed: int, building: int, indices: Sequence[int], image_size: int, dtype: DTypeLike = np.float32
) -> dict[str, NDArray[np.generic]]:
    """Render images of a building: "a" [n, 3, S, S] in 0..1, "s" [n, S, S] uint8, other targets [n, C, S, S]."""
    setting = draw_building(seed, building)
    views = [draw_view(seed, building, index, setting) for index in indices]
    seen = cast_views(setting, views, image_size, dtype)
    shape = (len(views), image_size + 2, image_size + 2)

    def inner(values: NDArray[np.generic]) -> NDArray[np.generic]:
        return values.reshape(shape)[:, 1:-1, 1:-1]

    frames = np.stack([view.frame * [[1], [1], [-1]] for view in views]).astype(dtype)[..., None]
    in_camera = [
        sum(frame * n for frame, n in zip(frames[:, axis].swapaxes(0, 1), seen.normal, strict=True))
        for axis in range(3)
    ]
    light = setting.light.astype(dtype)
    lit = sum(n * part for n, part in zip(seen.normal, light, strict=True))
    shading = inner(0.25 + 0.75 * np.maximum(lit, 0))
    image = _albedo(setting, seen, dtype)
    image = np.clip(np.stack([inner(channel) for channel in image], axis=1) * shading[:, None], 0, 1)
    texture, corners = texture_targets(image.mean(axis=1, dtype=dtype))
    return {
        "a": image,
        "s": CLASS_OF[inner(seen.surface)],
        "d": np.log1p(inner(seen.depth))[:, None],
        "n": np.stack([inner(part) for part in in_camera], axis=1),
        "e": np.clip(edge_strength(1 / seen.depth.reshape(shape)) / FULL_EDGE, 0, 1)[:, None],
        "r": shading[:, None],
        "k": corners[:, None],
        "t": texture[:, None],
        "c": np.stack([inner(np.arctan(part)) for part in seen.curvature], axis=1) * np.asarray(2 / np.pi, dtype),
    }


def edge_strength(inverse_depth: Array) -> Array:
    """Return the larger second difference of the inverse depth along row or column, divided by it [n, H, W].

    `inverse_depth` [n, H + 2, W + 2] has one extra pixel on every side.
    """
    q = inverse_depth[:, 1:-1, 1:-1]
    in_row = np.abs(inverse_depth[:, 1:-1, 2:] - 2 * q + inverse_depth[:, 1:-1, :-2])
    in_column = np.abs(inverse_depth[:, 2:, 1:-1] - 2 * q + inverse_depth[:, :-2, 1:-1])
    return np.maximum(in_row, in_column) / q


def _albedo(setting: Building, seen: Surfaces, dtype: DTypeLike) -> list[Array]:
    """Return the color of each pixel before shading, three channels."""
    x, y, z = seen.point
    on_x_wall, on_y_wall, on_solid = seen.surface < 2, (seen.surface == 2) | (seen.surface == 3), seen.surface > 5
    a = np.where(on_x_wall, y, np.where(on_solid, x + y, x))
    b = np.where(on_x_wall | on_y_wall, z, np.where(on_solid, z + x - y, y))
    turns = (2 * np.pi * setting.frequencies[TEXTURE_OF]).astype(dtype)[seen.surface]
    style = setting.textures[TEXTURE_OF].astype(np.int8)[seen.surface]
    product = np.sin(turns * a) * np.sin(turns * b)
    stripes = np.sin(turns * (a + b))
    pattern = np.where(style == 0, np.sign(product), np.where(style == 1, stripes, product))
    brightness = 0.75 + 0.25 * pattern
    colors = setting.colors[COLOR_OF].astype(dtype)
    return [colors[:, channel][seen.surface] * brightness for channel in range(3)]


def texture_targets(gray: Array) -> tuple[Array, Array]:
    """Return edge magnitude and corner strength, each [n, S, S], of gray images [n, S, S]."""
    smooth, derive, window = (matrix.astype(gray.dtype) for matrix in _filters(gray.shape[-1]))
    in_row, in_column = smooth @ gray @ derive.T, derive @ gray @ smooth.T
    xx, yy, xy = (window @ part @ window.T for part in (in_row**2, in_column**2, in_row * in_column))
    strength = xx * yy - xy * xy - 0.05 * (xx + yy) ** 2
    return np.sqrt(in_row**2 + in_column**2), np.sqrt(np.maximum(strength, 0))


@cache
def _filters(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the filter matrices [size, size] of one axis, with mirrored borders.

    They are smoothing and derivative, whose product is Sobel's filter over 8, after a Gaussian of one pixel, and a
    Gaussian window of 1.5 pixels.
    """
    blur = _convolution(np.exp(-0.5 * np.arange(-4, 5) ** 2), size)
    window = _convolution(np.exp(-0.5 * (np.arange(-6, 7) / 1.5) ** 2), size)
    derivative = np.zeros((size, size))
    for row in range(size):
        derivative[row, min(row + 1, size - 1)] += 0.5
        derivative[row, max(row - 1, 0)] -= 0.5
    return _convolution(np.array([1.0, 2.0, 1.0]), size) @ blur, derivative @ blur, window


def _convolution(kernel: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the matrix that filters an axis with `kernel`, scaled to sum 1 and mirrored at the borders."""
    matrix = np.zeros((size, size))
    for row in range(size):
        for offset, weight in enumerate(kernel / kernel.sum(), start=row - len(kernel) // 2):
            period = offset % (2 * size)
            matrix[row, min(period, 2 * size - 1 - period)] += weight
    return matrix
