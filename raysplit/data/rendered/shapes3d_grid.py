"""The grid of the six factors of 3D Shapes, in which the number of a picture is its place.

Burgess & Kim, "3D Shapes" (2018): 10 floor, wall and object hues, 8 scales, 4 shapes, 15 orientations, 480,000
pictures; the last factor varies fastest. Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982) learn scale and shape
and test on the pictures whose floor *and* wall hues both lie in the upper half, hue pairs that training never shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raysplit.data.rendered.shapes3d_render import SHAPES, Geometry

Indices = npt.NDArray[np.int64]
FACTORS = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Numbers of values of FACTORS. Raises ValueError below 2 values, or above 4 shapes."""

    sizes: tuple[int, int, int, int, int, int]

    def __post_init__(self) -> None:
        if len(self.sizes) != len(FACTORS) or min(self.sizes) < 2 or self.sizes[4] > len(SHAPES):
            raise ValueError(f"a grid has 6 sizes of at least 2 and at most {len(SHAPES)} shapes, got {self.sizes}")

    def __len__(self) -> int:
        return math.prod(self.sizes)

    def factors(self, indices: Indices) -> Indices:
        """Return the factor values [N, 6] of pictures [N]. Raises ValueError outside the grid."""
        return np.stack(np.unravel_index(indices, self.sizes), axis=-1).astype(np.int64)

    def indices(self, factors: Indices) -> Indices:
        """Return the pictures [N] with these factor values [N, 6]. Raises ValueError outside the grid."""
        return np.asarray(np.ravel_multi_index(tuple(factors.T), self.sizes), np.int64)

    def split(self) -> tuple[Indices, Indices]:
        """Return training and test pictures; test pictures have floor and wall hue both in the upper half."""
        everything = np.arange(len(self), dtype=np.int64)
        factors = self.factors(everything)
        held_out = (factors[:, 0] >= self.sizes[0] // 2) & (factors[:, 1] >= self.sizes[1] // 2)
        return everything[~held_out], everything[held_out]

    def geometry(self, scale: int, shape: int, orientation: int) -> Geometry:
        """Return the geometry, with scale 0.75 to 1.25 and orientation -30 to 30 degrees in equal steps."""
        steps = self.sizes[5] - 1
        return Geometry(
            shape=SHAPES[shape],
            scale=0.75 + 0.5 * scale / (self.sizes[3] - 1),
            orientation_degrees=(2 * orientation - steps) * 30 / steps,
        )

    def hue(self, factor: int, value: int) -> float:
        """Return the hue i / n, which stops short of 1 because 1 is the same hue as 0."""
        return value / self.sizes[factor]

    def class_names(self, task: str) -> tuple[str, ...]:
        """Return the values of one factor as text. Raises ValueError when `task` is not a factor."""
        if task not in FACTORS:
            raise ValueError(f"unknown task {task!r}; 3D Shapes has {', '.join(FACTORS)}")
        factor = FACTORS.index(task)
        values = range(self.sizes[factor])
        if task == "shape":
            return SHAPES[: self.sizes[factor]]
        if task == "scale":
            return tuple(f"{self.geometry(value, 0, 0).scale:.3f}" for value in values)
        if task == "orientation":
            return tuple(f"{self.geometry(0, 0, value).orientation_degrees:+.1f}" for value in values)
        return tuple(f"{self.hue(factor, value):.2f}" for value in values)


GRIDS: Mapping[str, Grid] = {
    "full": Grid(sizes=(10, 10, 10, 8, 4, 15)),
    "reduced": Grid(sizes=(4, 4, 4, 8, 4, 5)),
}
