"""Pictures drawn by corral itself, to calibrate on where no photographs may be shipped.

What batch-norm statistics and INT8 ranges depend on is how much there is of each spatial
frequency, how colours go together, and where edges are. A drawn picture has the 1/f spectrum of
photographs, a palette of its own, shapes with hard edges and other textures inside, a fall of
light, and a contrast that differs from picture to picture. Nobody would take it for a photograph.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from corral.models.spec import Recipe

#: what the light of most photographs spans: from deep shade to a bright sky
_BRIGHTNESS = (60.0, 190.0)
_CONTRAST = (25.0, 75.0)


def draw_pictures(count: int, seed: int, size: int) -> NDArray[np.uint8]:
    """Draws ``count`` pictures, UINT8 [count,size,size,3]; 15 ms each at 224.

    The same seed gives the same pictures, and a larger count begins with them.
    """
    pictures = np.empty((count, size, size, 3), np.uint8)
    for index in range(count):
        pictures[index] = _draw(np.random.default_rng([seed, index]), size)
    return pictures


def normalise(pixels: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.float32]:
    """Pixels, UINT8 [n,h,w,3], to what the model takes: FP32 [n,3,h,w], contiguous."""
    mean = np.asarray(recipe.mean, np.float32)
    std = np.asarray(recipe.std, np.float32)
    return np.ascontiguousarray(((pixels - mean) / std).transpose(0, 3, 1, 2))


def _draw(random: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """One picture, UINT8 [size,size,3]: a ground, shapes on it, light over both."""
    canvas = _texture(random, size)
    for _ in range(random.integers(2, 9)):
        mask = _shape(random, size)[:, :, None]
        canvas = canvas * (1 - mask) + _texture(random, size) * mask
    canvas += random.normal(0, 0.5, 3) * _ramp(random, size)[:, :, None]
    canvas -= canvas.mean()
    canvas /= canvas.std() + 1e-6
    canvas = canvas * random.uniform(*_CONTRAST) + random.uniform(*_BRIGHTNESS)
    canvas += random.normal(0, random.uniform(0, 4), canvas.shape)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def _texture(random: np.random.Generator, size: int) -> NDArray[np.float64]:
    """A coloured surface, [size,size,3]: 1/f noise, sometimes with stripes."""
    surface = _noise(random, size)
    if random.random() < 0.3:
        waves = random.uniform(3, 40) * _ramp(random, size) + 0.3 * surface[:, :, 0]
        surface[:, :, 0] += random.uniform(0.5, 2) * np.sin(np.pi * waves)
    # Brightness varies more than colour does: the first of three fields is nearly grey.
    grey = np.ones(3) + random.normal(0, 0.25, 3)
    tints = random.normal(0, 0.35, (2, 3))
    return surface @ np.vstack([grey, tints]) * random.uniform(0.2, 1) + random.normal(0, 1, 3)


def _noise(random: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Three fields of unit variance, [size,size,3], whose amplitudes fall as 1/f to 1/f^1.8."""
    down, across = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    # One axis is stretched: wood, grass and water have a direction.
    stretch = np.exp(random.normal(0, 0.4))
    frequency = np.hypot(down * stretch, across / stretch)
    frequency[0, 0] = np.inf
    amplitude = frequency ** -random.uniform(1.0, 1.8)
    phases = random.normal(size=(3, *frequency.shape)) + 1j * random.normal(
        size=(3, *frequency.shape)
    )
    fields = np.fft.irfft2(phases * amplitude, s=(size, size))
    fields /= fields.std(axis=(1, 2), keepdims=True) + 1e-9
    return np.ascontiguousarray(fields.transpose(1, 2, 0))


def _shape(random: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Where a shape lies, [size,size], 0 to 1: an ellipse, a blob or a convex polygon."""
    y, x = np.mgrid[0:size, 0:size] / size - random.uniform(0, 1, (2, 1, 1))
    radius = random.uniform(0.05, 0.45)
    angle = np.arctan2(y, x)
    kind = random.integers(3)
    if kind == 0:
        turn = random.uniform(0, np.pi)
        along, beside = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        distance = np.hypot(along, beside * random.uniform(1, 4)) - radius
    elif kind == 1:
        lobes = random.integers(2, 8)
        edge = 1 + 0.3 * np.sin(lobes * angle + random.uniform(0, 2 * np.pi))
        distance = np.hypot(x, y) - radius * edge
    else:
        sides = random.uniform(0, 2 * np.pi, random.integers(3, 7))
        distance = np.max(
            [x * np.cos(side) + y * np.sin(side) - radius for side in sides], axis=0
        )
    # Most edges are one pixel wide, some are out of focus.
    width = random.uniform(1, 2) if random.random() < 0.8 else random.uniform(4, 16)
    return np.asarray(np.clip(0.5 - distance * size / width, 0, 1))


def _ramp(random: np.random.Generator, size: int) -> NDArray[np.float64]:
    """A plane that falls from 1 to -1 in some direction, [size,size]."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    turn = random.uniform(0, 2 * np.pi)
    return np.asarray((x * np.cos(turn) + y * np.sin(turn)) / np.sqrt(2))
