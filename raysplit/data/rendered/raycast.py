"""Ray casting of a box-shaped room and of simple solids, many images at once, in plain NumPy.

Arrays are [images, pixels]; points and directions are lists of three such arrays (x, y, z). A depth is a multiple of
the direction of the ray, which is the z-depth if the direction has component 1 along the camera's axis. Curvatures are
the two principal ones in 1/m, the larger first, positive where the solid bulges outward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Vector = list[Array]  # x, y, z
NEAR = 1e-3  # meters; nothing is closer to a camera

BOX, CYLINDER, SPHERE, CAPSULE, STANDING_CAPSULE = range(5)


@dataclass(frozen=True, kw_only=True)
class Solid:
    """Positions, rotations and sizes of solids of one type, one for each bundle of rays [m, 1].

    `size` is (half length, half width, height) of a box, (radius, -, height) of an upright cylinder, (radius, -, -)
    of a sphere lying on the floor or `height` above it, (radius, half length, -) of a capsule lying on the floor,
    (radius, -, distance of its two centers) of a capsule standing on it.
    """

    x: Array
    y: Array
    turn_rad: Array
    size: tuple[Array, Array, Array]


@dataclass(frozen=True, kw_only=True)
class Hit:
    """First hits [m, pixels]: depth (inf for a miss), normal in the frame of the solid, and principal curvatures."""

    depth: Array
    normal: Sequence[Array]
    curvature: tuple[Array, Array]


def _off_axes(ray: Vector) -> Vector:
    """Replace components of exactly 0, so that every ray meets every plane somewhere."""
    return [np.copysign(np.maximum(np.abs(part), 1e-12), part) for part in ray]


def room_hit(origin: Vector, ray: Vector, half_width: Array, height: float) -> tuple[Array, NDArray[np.int8]]:
    """Return the depth of the wall, floor or ceiling behind each pixel, and its number.

    Numbers: 0 -x, 1 +x, 2 -y, 3 +y, 4 floor, 5 ceiling.
    """
    ray = _off_axes(ray)
    planes = [(np.copysign(half_width, r) - o) / r for o, r in zip(origin[:2], ray[:2], strict=True)]
    planes.append((np.where(ray[2] > 0, np.asarray(height, ray[2].dtype), 0) - origin[2]) / ray[2])
    depth = np.minimum(np.minimum(planes[0], planes[1]), planes[2])
    number = np.where(
        depth == planes[2], 4 + (ray[2] > 0), np.where(depth == planes[0], 0 + (ray[0] > 0), 2 + (ray[1] > 0))
    )
    return depth, number.astype(np.int8)


def solid_hit(kind: int, solid: Solid, origin: Vector, ray: Vector) -> Hit:
    """Intersect rays with one solid for each bundle; rays and returned normals are in world coordinates."""
    cos, sin = np.cos(solid.turn_rad), np.sin(solid.turn_rad)
    dx, dy = origin[0] - solid.x, origin[1] - solid.y
    local_origin = [cos * dx + sin * dy, cos * dy - sin * dx, origin[2]]
    local_ray = _off_axes([cos * ray[0] + sin * ray[1], cos * ray[1] - sin * ray[0], ray[2]])
    hit = _HITS[kind](solid, local_origin, local_ray)
    nx, ny, nz = hit.normal
    return Hit(depth=hit.depth, normal=[cos * nx - sin * ny, sin * nx + cos * ny, nz], curvature=hit.curvature)


def _box(solid: Solid, origin: Vector, ray: Vector) -> Hit:
    half_length, half_width, height = solid.size
    center_z = height / 2
    entries, exits = [], []
    for o, r, half in (
        (origin[0], ray[0], half_length),
        (origin[1], ray[1], half_width),
        (origin[2] - center_z, ray[2], center_z),
    ):
        middle, reach = -o / r, half / np.abs(r)
        entries.append(middle - reach)
        exits.append(middle + reach)
    enter = np.maximum(np.maximum(entries[0], entries[1]), entries[2])
    leave = np.minimum(np.minimum(exits[0], exits[1]), exits[2])
    depth = np.where((enter < leave) & (enter > NEAR), enter, np.inf)
    normal = [np.where(enter == entry, -np.sign(r), 0) for entry, r in zip(entries, ray, strict=True)]
    flat = np.zeros_like(depth)
    return Hit(depth=depth, normal=normal, curvature=(flat, flat))


def _root(a: Array, half_b: Array, c: Array) -> Array:
    """Return the smaller root of a t^2 + 2 half_b t + c, inf where there is none in front of the camera."""
    inside = half_b * half_b - a * c
    root = (-half_b - np.sqrt(np.maximum(inside, 0))) / a
    return np.where((inside > 0) & (root > NEAR), root, np.inf)


def _sphere_at(origin: Vector, ray: Vector, radius: Array) -> Array:
    squared = ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2]
    along = origin[0] * ray[0] + origin[1] * ray[1] + origin[2] * ray[2]
    return _root(squared, along, sum(o * o for o in origin) - radius * radius)


def _sphere(solid: Solid, origin: Vector, ray: Vector) -> Hit:
    radius, _, height = solid.size
    local = [origin[0], origin[1], origin[2] - radius - height]
    depth = _sphere_at(local, ray, radius)
    reached = np.where(np.isfinite(depth), depth, 0)
    normal = [(o + reached * r) / radius for o, r in zip(local, ray, strict=True)]
    bend = np.broadcast_to(1 / radius, depth.shape)
    return Hit(depth=depth, normal=normal, curvature=(bend, bend))


def _side(origin: Vector, ray: Vector, radius: Array) -> tuple[Array, Array]:
    """Return the depth at which rays meet the side of an endless upright cylinder, and the height there."""
    across = ray[0] * ray[0] + ray[1] * ray[1]
    along = origin[0] * ray[0] + origin[1] * ray[1]
    side = _root(across, along, origin[0] * origin[0] + origin[1] * origin[1] - radius * radius)
    return side, origin[2] + np.where(np.isfinite(side), side, 0) * ray[2]


def _cylinder(solid: Solid, origin: Vector, ray: Vector) -> Hit:
    radius, _, height = solid.size
    side, z = _side(origin, ray, radius)
    side = np.where((z >= 0) & (z <= height), side, np.inf)
    lid = (height - origin[2]) / ray[2]
    x, y = origin[0] + lid * ray[0], origin[1] + lid * ray[1]
    lid = np.where((lid > NEAR) & (x * x + y * y <= radius * radius) & (origin[2] > height), lid, np.inf)
    depth = np.minimum(side, lid)
    on_side = side < lid
    reached = np.where(on_side, side, 0)
    normal = [np.where(on_side, (o + reached * r) / radius, 0) for o, r in zip(origin[:2], ray[:2], strict=True)]
    normal.append(np.where(on_side, 0, 1).astype(depth.dtype))
    return Hit(depth=depth, normal=normal, curvature=(np.where(on_side, 1 / radius, 0), np.zeros_like(depth)))


def _capsule(solid: Solid, origin: Vector, ray: Vector) -> Hit:
    radius, half_length, _ = solid.size
    z = origin[2] - radius
    across = ray[1] * ray[1] + ray[2] * ray[2]
    side = _root(across, origin[1] * ray[1] + z * ray[2], origin[1] * origin[1] + z * z - radius * radius)
    x = origin[0] + np.where(np.isfinite(side), side, 0) * ray[0]
    side = np.where(np.abs(x) <= half_length, side, np.inf)
    ends = [_sphere_at([origin[0] - sign * half_length, origin[1], z], ray, radius) for sign in (-1, 1)]
    cap = np.minimum(ends[0], ends[1])
    depth = np.minimum(side, cap)
    reached = np.where(np.isfinite(depth), depth, 0)
    x = origin[0] + reached * ray[0]
    center = np.clip(x, -half_length, half_length)
    normal = [(x - center) / radius, (origin[1] + reached * ray[1]) / radius, (z + reached * ray[2]) / radius]
    bend = np.broadcast_to(1 / radius, depth.shape)
    return Hit(depth=depth, normal=normal, curvature=(bend, np.where(cap < side, bend, 0)))


def _standing_capsule(solid: Solid, origin: Vector, ray: Vector) -> Hit:
    radius, _, distance = solid.size
    side, z = _side(origin, ray, radius)
    side = np.where((z >= radius) & (z <= radius + distance), side, np.inf)
    ends = [
        _sphere_at([origin[0], origin[1], origin[2] - center], ray, radius) for center in (radius, radius + distance)
    ]
    cap = np.minimum(ends[0], ends[1])
    depth = np.minimum(side, cap)
    reached = np.where(np.isfinite(depth), depth, 0)
    x, y, z = (o + reached * r for o, r in zip(origin, ray, strict=True))
    center = np.clip(z, radius, radius + distance)
    bend = np.broadcast_to(1 / radius, depth.shape)
    normal = [x / radius, y / radius, (z - center) / radius]
    return Hit(depth=depth, normal=normal, curvature=(bend, np.where(cap < side, bend, 0)))


_HITS: dict[int, Callable[[Solid, Vector, Vector], Hit]] = {
    BOX: _box,
    CYLINDER: _cylinder,
    SPHERE: _sphere,
    CAPSULE: _capsule,
    STANDING_CAPSULE: _standing_capsule,
}
