"""A procedural rendering of scenes like those of 3D Shapes: an object on the floor of a room, seen from one side.

The factors are those of the 3D Shapes data set (Burgess & Kim 2018) as used by Capogrosso et al., "MTL-Split" (2024,
arXiv 2407.05982): hues of floor, wall and object, scale, shape and orientation. The scene is simpler. World: z up,
floor z = 0, walls at y = 3 and x = -3, 3; the camera turns about the room's middle and looks at (0, 0, 0.55).

A picture is linear in its three colors: every pixel is the mean of its 2 x 2 rays, each the shade of one surface
times the color of that surface. A geometry (scale, shape, orientation) is therefore traced once into one weight per
pixel and surface, and a picture takes three products and sums per channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from raysplit.data.rendered.raycast import BOX, CYLINDER, SPHERE, STANDING_CAPSULE, Solid, solid_hit

IMAGE_SIZE = 64
RAYS_PER_SIDE = 2
SHAPES = ("box", "cylinder", "sphere", "capsule")
BACKGROUND = 0.85
WALL_HEIGHT = 3.0
WALL_DISTANCE = 3.0
EYE_DISTANCE, EYE_HEIGHT, TARGET_HEIGHT = 3.6, 2.0, 0.55
HALF_VIEW = math.tan(math.radians(25.0))
BOX_YAW = math.radians(25.0)
AMBIENT, DIFFUSE = 0.35, 0.65
LIGHT = np.array([-0.4, -0.6, 0.9]) / math.sqrt(0.4**2 + 0.6**2 + 0.9**2)

Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.uint8]


class Surface(IntEnum):
    """A surface that a ray can meet, with its number in an id map."""

    FLOOR = 0
    WALL = 1
    OBJECT = 2
    BACKGROUND = 3


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A scene without its colors: `shape` in SHAPES, `scale` about 1, and the angle of the camera."""

    shape: str
    scale: float
    orientation_degrees: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Hits:
    """Hits of rays [...]: the distance to the surface (infinite for a miss) and its unit normal [..., 3]."""

    distance: Floats
    normal: Floats


def trace(geometry: Geometry, size: int = IMAGE_SIZE) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Return the `Surface` that each of (2 size) x (2 size) rays meets, top left first, and its shade in 0..1."""
    eye, rays = _camera(math.radians(geometry.orientation_degrees), size * RAYS_PER_SIDE)
    floor, wall = _floor(eye, rays), _walls(eye, rays)
    thing = _object(geometry, eye, rays)
    surfaces = [floor, wall, thing]
    nearest = np.argmin([hits.distance for hits in surfaces], axis=0)
    missed = np.isinf(np.min([hits.distance for hits in surfaces], axis=0))
    ids = np.where(missed, np.uint8(Surface.BACKGROUND), nearest.astype(np.uint8))
    normal = np.select([nearest[..., None] == k for k in range(3)], [hits.normal for hits in surfaces])
    shade = AMBIENT + DIFFUSE * np.maximum(0.0, normal @ LIGHT)
    return ids, np.where(missed, BACKGROUND, shade)


def weights(geometry: Geometry, size: int = IMAGE_SIZE) -> Weights:
    """Return the shade that each surface adds to each pixel: [4, size, size], in the order of `Surface`."""
    ids, shade = trace(geometry, size)
    per_surface = np.where(ids == np.arange(len(Surface))[:, None, None], shade, 0.0)
    blocks = per_surface.reshape(len(Surface), size, RAYS_PER_SIDE, size, RAYS_PER_SIDE)
    parts: Weights = blocks.mean(axis=(2, 4)).astype(np.float32)
    return parts


def color_in(parts: Weights, colors: npt.NDArray[np.float32]) -> Pictures:
    """Color one geometry: pictures [N, size, size, 3] in `colors` [N, floor | wall | object, RGB], each in 0..1.

    Products and sums have a fixed order, so a picture has the same bytes alone and among others.
    """
    tints = colors[:, :, None, None, :]  # [N, 3, 1, 1, RGB]
    light = parts[Surface.BACKGROUND][None, :, :, None] + parts[Surface.FLOOR][None, :, :, None] * tints[:, 0]
    light += parts[Surface.WALL][None, :, :, None] * tints[:, 1]
    light += parts[Surface.OBJECT][None, :, :, None] * tints[:, 2]
    light *= np.float32(255)
    pictures: Pictures = np.rint(light, out=light).astype(np.uint8)
    return pictures


def hue_color(hue: float) -> tuple[float, float, float]:
    """Return the RGB of a pure hue in 0..1 (saturation and value 1)."""
    red, green, blue = (abs((hue * 6 - shift) % 6 - 3) for shift in (0, 2, 4))
    clipped = [min(max(value, 0.0), 1.0) for value in (red - 1, green - 1, blue - 1)]
    return clipped[0], clipped[1], clipped[2]


def _camera(angle: float, num_rays: int) -> tuple[Floats, Floats]:
    """Return the position of the eye [3] and the unnormalized directions of its rays [num_rays, num_rays, 3].

    The arithmetic is such that the angle -angle mirrors every ray exactly, bit for bit.
    """
    eye = np.array([EYE_DISTANCE * math.sin(angle), -EYE_DISTANCE * math.cos(angle), EYE_HEIGHT])
    gaze = np.array([0.0, 0.0, TARGET_HEIGHT]) - eye
    gaze /= math.sqrt(gaze[0] ** 2 + gaze[1] ** 2 + gaze[2] ** 2)
    level = math.hypot(gaze[0], gaze[1])
    right = np.array([gaze[1] / level, -gaze[0] / level, 0.0])
    upward = np.array([right[1] * gaze[2], -right[0] * gaze[2], right[0] * gaze[1] - right[1] * gaze[0]])
    centers = ((np.arange(num_rays) + 0.5) * (2.0 / num_rays) - 1.0) * HALF_VIEW
    across, down = centers[None, :, None], centers[:, None, None]
    return eye, (gaze - down * upward) + across * right


def _plane(distance: Floats, inside: npt.NDArray[np.bool_], normal: tuple[float, float, float]) -> Hits:
    seen = (distance > 0) & inside
    return Hits(
        distance=np.where(seen, distance, np.inf), normal=np.broadcast_to(np.array(normal), (*distance.shape, 3))
    )


def _floor(eye: Floats, rays: Floats) -> Hits:
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = -eye[2] / rays[..., 2]
        point = eye + distance[..., None] * rays
    inside = (np.abs(point[..., 0]) <= WALL_DISTANCE) & (point[..., 1] <= WALL_DISTANCE)
    return _plane(distance, inside, (0.0, 0.0, 1.0))


def _walls(eye: Floats, rays: Floats) -> Hits:
    """Intersect rays with the back wall and the two side walls, each from the floor to WALL_HEIGHT."""
    walls = []
    for axis, place, normal in (
        (1, WALL_DISTANCE, (0.0, -1.0, 0.0)),
        (0, -WALL_DISTANCE, (1.0, 0.0, 0.0)),
        (0, WALL_DISTANCE, (-1.0, 0.0, 0.0)),
    ):
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = (place - eye[axis]) / rays[..., axis]
            point = eye + distance[..., None] * rays
        other = 1 - axis
        inside = (point[..., 2] >= 0) & (point[..., 2] <= WALL_HEIGHT) & (point[..., other] <= WALL_DISTANCE)
        if axis == 1:
            inside &= point[..., 0] >= -WALL_DISTANCE
        walls.append(_plane(distance, inside, normal))
    return _nearest(walls)


def _object(geometry: Geometry, eye: Floats, rays: Floats) -> Hits:
    """Intersect rays with the object of base radius r = 0.55 scale, which stands on the floor at the origin."""
    r = 0.55 * geometry.scale
    kind, turn_rad, size = {
        "box": (BOX, BOX_YAW, (0.8 * r, 0.8 * r, 2 * r)),
        "cylinder": (CYLINDER, 0.0, (0.8 * r, 0.0, 2 * r)),
        "sphere": (SPHERE, 0.0, (r, 0.0, 0.0)),
        "capsule": (STANDING_CAPSULE, 0.0, (0.6 * r, 0.0, 1.3 * r)),
    }[geometry.shape]
    x, y, turn, half_length, half_width, height = (np.asarray(value) for value in (0.0, 0.0, turn_rad, *size))
    solid = Solid(x=x, y=y, turn_rad=turn, size=(half_length, half_width, height))
    hit = solid_hit(kind, solid, list(eye), list(np.moveaxis(rays, -1, 0)))
    return Hits(distance=hit.depth.astype(np.float64), normal=np.stack(hit.normal, axis=-1))


def _nearest(hits: list[Hits]) -> Hits:
    distances = np.stack([each.distance for each in hits])
    first = np.argmin(distances, axis=0)
    normal = np.select([first[..., None] == k for k in range(len(hits))], [each.normal for each in hits])
    return Hits(distance=np.min(distances, axis=0), normal=normal)
