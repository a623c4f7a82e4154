"""Drawn stand-ins for the two photographic data sets of the MTL-Split experiments, which may not be copied.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982) use MEDIC (disaster pictures: damage severity in 3, disaster
type in 5 classes) and FACES (171 persons, 6 expressions, 2 sets: age group in 3, gender in 2, expression in 6). These
drawings have the same tasks, class counts and coupling between labels; results on them say nothing about photographs.
Every picture has its own random stream, so it depends on the seed and its place in the set alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from raysplit.data.samples import Samples
from raysplit.data.sources.task_set import TaskSet
from raysplit.data.transforms import ToUnit
from raysplit.seeding import generator

Canvas = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SEVERITIES = ("little_or_none", "mild", "severe")
DISASTERS = ("earthquake", "fire", "flood", "hurricane", "landslide")
SEVERITY_BOUNDS = (0.1, 0.3)
SEVERITY_GIVEN_DISASTER = ((0.15, 0.35, 0.5), (0.2, 0.3, 0.5), (0.4, 0.4, 0.2), (0.45, 0.35, 0.2), (0.3, 0.4, 0.3))
DEBRIS_RANGES = ((0.0, 0.08), (0.12, 0.26), (0.33, 0.5))

AGE_GROUPS = ("young", "middle_aged", "old")
PERSONS_OF_AGE = (58, 56, 57)
GENDERS = ("female", "male")
EXPRESSIONS = ("anger", "disgust", "fear", "happiness", "neutrality", "sadness")
SETS = 2
TEST_PERSONS = 34


def load_medic_like(*, num_train: int = 5000, num_test: int = 1250, image_size: int = 64, seed: int = 0) -> TaskSet:
    """Draw scenes of a disaster (5 kinds) under debris, whose share of the picture is the severity (3 classes).

    Args:
        num_train: number of training pictures.
        num_test: number of test pictures.
        image_size: side of the square pictures in pixels.
        seed: seed of all pictures.

    Raises:
        ValueError: for a side without pictures.
    """

    def side(name: str, count: int) -> Samples:
        drawn = [_disaster(generator(seed, "medic-like", name, k), image_size) for k in range(count)]
        return _samples(drawn, ("damage_severity", "disaster_type"))

    classes = {"damage_severity": SEVERITIES, "disaster_type": DISASTERS}
    return _task_set(side("train", num_train), side("test", num_test), classes)


def load_faces_like(*, image_size: int = 64, seed: int = 0) -> TaskSet:
    """Draw cartoon faces of 171 persons in 6 expressions and 2 sets, labeled by age group, gender and expression.

    The 1,644 training pictures show 137 persons, the 408 test pictures the 34 others.

    Args:
        image_size: side of the square pictures in pixels.
        seed: seed of all pictures and of the split.
    """
    ages = np.repeat(np.arange(len(AGE_GROUPS)), PERSONS_OF_AGE)
    order = generator(seed, "faces-like", "split").permutation(len(ages)).tolist()

    def side(persons: Sequence[int]) -> Samples:
        drawn = [
            _face(seed, person, int(ages[person]), expression, taken, image_size)
            for person in persons
            for expression in range(len(EXPRESSIONS))
            for taken in range(SETS)
        ]
        return _samples(drawn, ("age_group", "gender", "expression"))

    classes = {"age_group": AGE_GROUPS, "gender": GENDERS, "expression": EXPRESSIONS}
    return _task_set(side(sorted(order[TEST_PERSONS:])), side(sorted(order[:TEST_PERSONS])), classes)


def _task_set(train: Samples, test: Samples, classes: Mapping[str, tuple[str, ...]]) -> TaskSet:
    return TaskSet(train=train, test=test, classes=classes, transform=ToUnit(), eval_transform=ToUnit())


def _samples(drawn: Sequence[tuple[Canvas, tuple[int, ...]]], tasks: Sequence[str]) -> Samples:
    if not drawn:
        raise ValueError("num_train or num_test is 0; give at least 1 of each")
    pictures = np.stack([np.rint(255 * canvas.clip(0, 1)).astype(np.uint8).transpose(2, 0, 1) for canvas, _ in drawn])
    labels = np.array([classes for _, classes in drawn], np.int64)
    return Samples(
        x=torch.from_numpy(pictures), y={task: torch.from_numpy(labels[:, k].copy()) for k, task in enumerate(tasks)}
    )


def _grid(size: int) -> tuple[Canvas, Canvas]:
    """Return the pixel centers (across, down) in 0..1."""
    centers = (np.arange(size) + 0.5) / size
    across, down = np.meshgrid(centers, centers)
    return across, down


def _paint(canvas: Canvas, mask: Mask, color: Sequence[float] | Canvas, opacity: float = 1.0) -> None:
    canvas[mask] = (1 - opacity) * canvas[mask] + opacity * np.asarray(color)


def _ellipse(x: Canvas, y: Canvas, center: tuple[float, float], half: tuple[float, float]) -> Mask:
    inside: Mask = ((x - center[0]) / half[0]) ** 2 + ((y - center[1]) / half[1]) ** 2 <= 1
    return inside


# --- disasters ---------------------------------------------------------------------------------------------------


def _disaster(draw: np.random.Generator, size: int) -> tuple[Canvas, tuple[int, int]]:
    kind = int(draw.integers(len(DISASTERS)))
    x, y = _grid(size)
    slide_degrees = draw.uniform(15, 30) * draw.choice([-1, 1]) if DISASTERS[kind] == "landslide" else 0.0
    canvas = _scene(draw, x, y, math.radians(slide_degrees))
    if DISASTERS[kind] in _MARKS:
        _MARKS[DISASTERS[kind]](draw, canvas, x, y)
    wanted = DEBRIS_RANGES[int(draw.choice(3, p=SEVERITY_GIVEN_DISASTER[kind]))]
    share = _debris(draw, canvas, x, y, float(draw.uniform(*wanted)))
    canvas += draw.normal(0, 0.02, canvas.shape)
    return canvas, (int(np.searchsorted(SEVERITY_BOUNDS, share, side="right")), kind)


def _scene(draw: np.random.Generator, x: Canvas, y: Canvas, angle: float) -> Canvas:
    """Draw sky, ground and a row of houses, rotated by `angle` (radians)."""
    u = 0.5 + (x - 0.5) * math.cos(angle) - (y - 0.5) * math.sin(angle)
    v = 0.5 + (x - 0.5) * math.sin(angle) + (y - 0.5) * math.cos(angle)
    horizon = draw.uniform(0.45, 0.6)
    canvas = np.array([0.55, 0.7, 0.9]) * draw.uniform(0.8, 1.0) + 0.15 * v[..., None]
    _paint(canvas, v > horizon, np.array([0.45, 0.5, 0.3]) * draw.uniform(0.7, 1.1))
    left = draw.uniform(-0.1, 0.1)
    for _ in range(5):
        width, height = draw.uniform(0.1, 0.2), draw.uniform(0.1, 0.35)
        house = (u > left) & (u < left + width) & (v > horizon - height) & (v < horizon + 0.08)
        _paint(canvas, house, draw.uniform(0.3, 0.8, 3))
        left += width + draw.uniform(0.02, 0.1)
    return canvas


def _cracks(draw: np.random.Generator, canvas: Canvas, x: Canvas, y: Canvas) -> None:
    for _ in range(draw.integers(2, 5)):
        steps = np.cumsum(draw.normal(0, 0.05, 16))
        path = draw.uniform(0.1, 0.9) + np.interp(y, np.linspace(1, 0.4, 16)[::-1], steps[::-1])
        _paint(canvas, (np.abs(x - path) < 0.012) & (y > 0.4), [0.08, 0.06, 0.05])


def _flames(draw: np.random.Generator, canvas: Canvas, x: Canvas, y: Canvas) -> None:
    tongues = sum(draw.uniform(0.04, 0.1) * np.sin(draw.uniform(8, 40) * x + draw.uniform(0, 6.28)) for _ in range(4))
    burning = y > draw.uniform(0.4, 0.6) + tongues
    heat = np.clip(1.6 * (y - 0.35) + 0.2 * np.sin(60 * x + 30 * y), 0, 1)
    colors = np.stack([np.ones_like(heat), 0.25 + 0.65 * heat, 0.1 + 0.2 * heat], axis=-1)
    _paint(canvas, burning, colors[burning], 0.75)


def _water(draw: np.random.Generator, canvas: Canvas, x: Canvas, y: Canvas) -> None:
    ripples = 0.08 * np.sin(draw.uniform(50, 90) * y + 3 * np.sin(draw.uniform(5, 12) * x))
    covered = y > draw.uniform(0.5, 0.7)
    colors = np.array([0.35, 0.42, 0.5]) + ripples[..., None]
    _paint(canvas, covered, colors[covered], 0.9)


def _streaks(draw: np.random.Generator, canvas: Canvas, x: Canvas, y: Canvas) -> None:
    canvas *= 0.75
    slope = draw.uniform(0.2, 0.6) * draw.choice([-1, 1])
    for offset in draw.uniform(-0.6, 1.6, 22):
        _paint(canvas, np.abs(y - slope * x - offset) < 0.008, [0.85, 0.88, 0.9], 0.6)


_MARKS: Mapping[str, Callable[[np.random.Generator, Canvas, Canvas, Canvas], None]] = {
    "earthquake": _cracks,
    "fire": _flames,
    "flood": _water,
    "hurricane": _streaks,
}


def _debris(draw: np.random.Generator, canvas: Canvas, x: Canvas, y: Canvas, wanted: float) -> float:
    """Paint convex pieces until they cover a share `wanted` of the picture, and return the share they cover."""
    covered = np.zeros(x.shape, bool)
    while covered.mean() < wanted:
        center, angle = draw.uniform([0, 0.2], 1), draw.uniform(0, 6.28)
        piece = np.ones(x.shape, bool)
        for side in range(int(draw.integers(3, 6))):
            turn = angle + side * draw.uniform(1.1, 1.9)
            piece &= (x - center[0]) * math.cos(turn) + (y - center[1]) * math.sin(turn) < draw.uniform(0.03, 0.08)
        piece &= _ellipse(x, y, (center[0], center[1]), (0.14, 0.14))  # the sides alone may leave it unbounded
        _paint(canvas, piece, np.array([0.32, 0.25, 0.2]) * draw.uniform(0.6, 1.4))
        covered |= piece
    return float(covered.mean())


# --- faces -------------------------------------------------------------------------------------------------------

# mouth curve (+ smiles), mouth opening, brow slant (+ inner ends down), brow height, eye opening
_FACIAL = ((-0.03, 0.01, 0.05, -0.02, 0.7), (-0.02, 0.025, 0.03, -0.01, 0.45), (-0.01, 0.06, -0.04, 0.04, 1.5),
           (0.06, 0.03, 0.0, 0.01, 0.9), (0.0, 0.006, 0.0, 0.0, 1.0), (-0.05, 0.008, -0.05, 0.01, 0.75))  # fmt: skip


def _face(seed: int, person: int, age: int, expression: int, taken: int, size: int) -> tuple[Canvas, tuple[int, ...]]:
    who = generator(seed, "faces-like", "person", person)
    gender = int(who.integers(2))
    skin = np.array([0.95, 0.78, 0.65]) * who.uniform(0.6, 1.0)
    width, chin, eyes, nose = (
        who.uniform(0.2, 0.25),
        who.uniform(0.3, 0.36),
        who.uniform(0.08, 0.11),
        who.uniform(0.06, 0.1),
    )
    shade = (who.uniform(0.05, 0.3), who.uniform(0.2, 0.45), who.uniform(0.65, 0.9))[age]
    hair = shade * (np.array([1.0, 0.75, 0.5]) if age < 2 else np.ones(3))

    now = generator(seed, "faces-like", "picture", person, expression, taken)
    x, y = _grid(size)
    x, y = x - now.normal(0, 0.015), y - now.normal(0, 0.015)
    canvas = np.full((size, size, 3), now.uniform(0.75, 0.95))
    _hair_behind(canvas, x, y, gender, width, hair)
    head = _ellipse(x, y, (0.5, 0.48), (width, chin))
    if gender == 1:  # a square jaw
        head |= (np.abs(x - 0.5) < 0.8 * width) & (y > 0.5) & (y < 0.48 + 0.88 * chin)
    _paint(canvas, head, skin)
    _paint(canvas, head & (y < 0.48 - chin * (0.72 if gender else 0.6)), hair)
    _wrinkles(canvas, x, y, age, width, 0.75 * skin)
    _features(canvas, x, y, _FACIAL[expression] + now.normal(0, 0.004, 5), eyes, nose, hair)
    return canvas * now.uniform(0.85, 1.05) + now.normal(0, 0.015, canvas.shape), (age, gender, expression)


def _hair_behind(canvas: Canvas, x: Canvas, y: Canvas, gender: int, width: float, hair: Canvas) -> None:
    if gender == 0:
        _paint(canvas, (np.abs(x - 0.5) < width + 0.06) & (y > 0.35) & (y < 0.85), hair)
    _paint(canvas, _ellipse(x, y, (0.5, 0.36), (width + 0.05, 0.24)), hair)


def _wrinkles(canvas: Canvas, x: Canvas, y: Canvas, age: int, width: float, color: Canvas) -> None:
    for line in range((0, 1, 3)[age]):
        _paint(canvas, (np.abs(y - 0.3 - 0.03 * line) < 0.007) & (np.abs(x - 0.5) < 0.6 * width), color)
    for side in (-1, 1) if age else ():
        fold = np.abs((x - 0.5) * side - 0.09 - 0.25 * (y - 0.55)) < 0.005 * age
        _paint(canvas, fold & (y > 0.55) & (y < 0.68), color)


def _features(canvas: Canvas, x: Canvas, y: Canvas, facial: Canvas, eyes: float, nose: float, hair: Canvas) -> None:
    curve, opening, slant, raised, wide = facial
    for side in (-1, 1):
        inward = (x - 0.5) * side - eyes  # from the eye's center, outward positive
        _paint(canvas, _ellipse(x, y, (0.5 + side * eyes, 0.42), (0.045, 0.022 * max(wide, 0.2))), [1.0, 1.0, 1.0])
        _paint(canvas, _ellipse(x, y, (0.5 + side * eyes, 0.42), (0.016, 0.018 * max(wide, 0.2))), [0.1, 0.1, 0.2])
        brow = np.abs(y - (0.365 - raised - slant * inward / 0.06)) < 0.011
        _paint(canvas, brow & (np.abs(inward) < 0.06), 0.6 * hair)
    _paint(canvas, (np.abs(x - 0.5) < 0.012) & (y > 0.45) & (y < 0.47 + nose), [0.5, 0.35, 0.3], 0.5)
    along = (x - 0.5) / 0.09
    middle = 0.655 + curve * (1 - 2 * along**2) * 0.6
    lips = np.abs(y - middle) < 0.008 + max(opening, 0.0) * np.sqrt(np.clip(1 - along**2, 0, 1))
    _paint(canvas, lips & (np.abs(along) < 1), [0.6, 0.1, 0.12])
