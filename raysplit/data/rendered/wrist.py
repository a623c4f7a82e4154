"""Drawn movements of a wrist, a stand-in for the recordings of sensors that people wear.

A window has 128 steps of 3 accelerations and 3 turning rates. A movement is a sum of four harmonics with amplitudes and
phases of its own. Persons differ as in recordings: in tempo, in amplitude, and in how the sensor sits on the wrist (a
rotation, the same for both kinds of channels). Tempos of persons differ more than those of some movements.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raysplit.data.failures import refuse_too_large
from raysplit.data.named.arrays import ArrayRules, data_set_from_named
from raysplit.data.samples import DataSet
from raysplit.options import Count
from raysplit.seeding import generator

Array = npt.NDArray[np.float64]

NUM_MOVEMENTS, NUM_CHANNELS, STEPS, STEPS_PER_S = 7, 6, 128, 64.0
_HARMONICS = 4
_NOISE, _STYLE, _ANGLE = 1.5, 0.5, 1.2


def wrist_arrays(
    *, num_persons: int = 10, num_held_out: int = 3, num_windows: int = 140, seed: int = 0
) -> dict[str, npt.NDArray[np.generic]]:
    """Draw the arrays as a file would have them: ``x``, ``y``, ``owner``, and those of the test side.

    Args:
        num_persons: number of persons.
        num_held_out: persons, the last ones, of whom all windows are test samples.
        num_windows: windows of each person, the movements in turn.
        seed: seed of the random streams.
    """
    movements = _movements(generator(seed, "wrist", "movements"))
    windows = [_person(movements, num_windows, generator(seed, "wrist", "person", i)) for i in range(num_persons)]
    y = np.arange(num_windows) % NUM_MOVEMENTS
    num_train = num_persons - num_held_out
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for end, own in (("", range(num_train)), ("_test", range(num_train, num_persons))):
        arrays["x" + end] = np.concatenate([windows[i] for i in own]).astype(np.float32)  # [N, 6, 128]
        arrays["y" + end] = np.tile(y, len(own))
        arrays["owner" + end] = np.repeat([f"person-{i:02d}" for i in own], num_windows)
    return arrays


def load_wrist(*, num_persons: Count = 10, num_held_out: Count = 3, num_windows: Count = 140, seed: int = 0) -> DataSet:
    """Draw the movements of some persons, of whom the last ones are the test side.

    Args:
        num_persons: number of persons.
        num_held_out: persons of whom all windows are test samples; the others are owners.
        num_windows: windows of each person, the movements in turn.
        seed: seed of the random streams.

    Raises:
        ValueError: when all persons are held out, or the windows do not fit in memory.
    """
    if num_held_out >= num_persons:
        raise ValueError(
            f"data.num_held_out is {num_held_out} and there are {num_persons} persons; leave at least one to train on"
        )
    refuse_too_large("the windows of data set wrist", 3 * num_persons * num_windows * NUM_CHANNELS * STEPS)
    arrays = wrist_arrays(num_persons=num_persons, num_held_out=num_held_out, num_windows=num_windows, seed=seed)
    return data_set_from_named(arrays, "wrist", ArrayRules())


def _movements(draw: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Draw tempo [7] in Hz, amplitudes and phases [7, 6, harmonics], and the mean of each channel [7, 6]."""
    tempo = draw.uniform(0.9, 1.9, NUM_MOVEMENTS)
    fading = 1 / np.arange(1, _HARMONICS + 1)
    amplitude = draw.standard_normal((NUM_MOVEMENTS, NUM_CHANNELS, _HARMONICS)) * fading
    phase = draw.uniform(0, 2 * np.pi, (NUM_MOVEMENTS, NUM_CHANNELS, _HARMONICS))
    rest = draw.standard_normal((NUM_MOVEMENTS, 3))
    rest /= np.linalg.norm(rest, axis=1, keepdims=True)  # gravity, which turning rates do not see
    return tempo, amplitude, phase, np.concatenate([rest, np.zeros_like(rest)], axis=1)


def _person(movements: tuple[Array, Array, Array, Array], num_windows: int, draw: np.random.Generator) -> Array:
    """Draw the windows [num_windows, 6, 128] of one person."""
    tempo, amplitude, phase, rest = movements
    pace, strength = np.exp(draw.normal(0, 0.2)), np.exp(draw.normal(0, 0.25))
    turn = _rotation(draw, angle=_ANGLE)
    amplitude = amplitude * np.exp(_STYLE * draw.standard_normal(amplitude.shape))  # everybody's own way to move
    phase = phase + _STYLE * draw.standard_normal(phase.shape)
    both = np.kron(np.eye(2), turn)  # accelerations and turning rates sit on the same wrist
    time_s = np.arange(STEPS) / STEPS_PER_S
    windows = []
    for index in range(num_windows):
        movement = index % NUM_MOVEMENTS
        hertz = tempo[movement] * pace * np.exp(draw.normal(0, 0.05))
        angle = 2 * np.pi * (hertz * time_s + draw.uniform())
        waves = np.sin(np.arange(1, _HARMONICS + 1)[:, None] * angle + phase[movement][..., None])  # [6, harmonics, T]
        moved = strength * np.einsum("ch,cht->ct", amplitude[movement], waves) + rest[movement][:, None]
        windows.append(both @ moved + _NOISE * draw.standard_normal((NUM_CHANNELS, STEPS)))
    return np.stack(windows)


def _rotation(draw: np.random.Generator, angle: float) -> Array:
    """Draw a rotation by up to ``angle`` radians about a random axis, by Rodrigues' formula."""
    axis = draw.standard_normal(3)
    axis /= np.linalg.norm(axis)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    by = draw.uniform(-angle, angle)
    return np.asarray(np.eye(3) + np.sin(by) * cross + (1 - np.cos(by)) * cross @ cross)
