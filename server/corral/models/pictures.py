"""Pictures drawn by corral itself, to calibrate on where no photographs may be shipped.

What batch-norm statistics and INT8 ranges depend on is how much there is of each spatial
frequency, how colours go together, and where edges are. A drawn picture has the 1/f spectrum of
photographs, a palette of its own, shapes with hard edges and other textures inside, a fall of
light, and a contrast that differs from picture to picture. Nobody would take it for a photograph.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from corral.models.spec import ModelSpec, Recipe
from corral.tensors import Datatype

_Field = NDArray[np.float32]

#: what the light of most photographs spans: from deep shade to a bright sky
_BRIGHTNESS = (60.0, 190.0)
_CONTRAST = (25.0, 75.0)
#: how much of grey is red, green and blue (ITU-R BT.601, as JPEG and Pillow have it)
GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)


def draw_pictures(count: int, seed: int, size: int) -> NDArray[np.uint8]:
    """Draws ``count`` pictures, UINT8 [count,size,size,3]; 25 ms each at 224.

    The same seed gives the same pictures, and a larger count begins with them.
    """
    pictures = np.empty((count, size, size, 3), np.uint8)
    for index in range(count):
        pictures[index] = _draw(np.random.default_rng([seed, index]), size)
    return pictures


def as_input(pixels: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.generic]:
    """Pixels, UINT8 [n,crop,crop,3], as the network itself takes them (``spec.native``).

    FP32 [n,3,crop,crop], normalised; or the pixels as they are.
    """
    return pixels if spec.native is Datatype.UINT8 else normalise(pixels, spec.recipe)


def normalise(pixels: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.float32]:
    """Pixels, UINT8 [n,h,w,3], to what the model takes: FP32 [n,3,h,w], contiguous.

    By the recipe's colours it has other channels, and by its layout they come last.
    """
    channels = recipe.channels
    mean = np.asarray(recipe.mean[:channels], np.float32)
    std = np.asarray(recipe.std[:channels], np.float32)
    if recipe.colors == "BGR":
        pixels = pixels[..., ::-1]
    values = (pixels @ GREY_WEIGHTS)[..., np.newaxis] if channels == 1 else pixels
    normal = (values - mean) / std
    return np.ascontiguousarray(
        normal.transpose(0, 3, 1, 2) if recipe.layout == "NCHW" else normal, np.float32
    )


def _draw(random: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """One picture, UINT8 [size,size,3]: a ground, shapes on it, light over both."""
    noises = [_noise(random, size) for _ in range(2)]
    canvas = _texture(random, noises)
    for _ in range(random.integers(2, 9)):
        canvas += (_texture(random, noises) - canvas) * _shape(random, size)[:, :, None]
    canvas += _ramp(random, size)[:, :, None] * random.normal(0, 0.5, 3).astype(np.float32)
    canvas -= canvas.mean()
    canvas /= canvas.std() + 1e-6
    canvas *= random.uniform(*_CONTRAST)
    canvas += random.uniform(*_BRIGHTNESS)
    grain = random.uniform(0, 4)
    canvas += grain * random.standard_normal(canvas.shape, np.float32)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def _texture(random: np.random.Generator, noises: list[_Field]) -> _Field:
    """A coloured surface, [size,size,3]: a piece of noise, sometimes with stripes."""
    surface = noises[random.integers(len(noises))]
    size = len(surface)
    # Noise from an inverse FFT has no seams, so that it can be shifted; it need not be made anew.
    surface = np.roll(surface, random.integers(0, size, 2), axis=(0, 1))
    if random.random() < 0.5:
        surface = surface.transpose(1, 0, 2)
    if random.random() < 0.3:
        waves = random.uniform(3, 40) * _ramp(random, size) + 0.3 * surface[:, :, 0]
        surface[:, :, 0] += random.uniform(0.5, 2) * np.sin(np.pi * waves)
    # Brightness varies more than colour does: the first of three fields is nearly grey.
    grey = 1 + random.normal(0, 0.2, 3)
    mixture = np.vstack([grey, random.normal(0, 0.25, (2, 3))]) * random.uniform(0.2, 1)
    colour = random.normal(0, 0.8) + random.normal(0, 0.5, 3)
    return surface @ mixture.astype(np.float32) + colour.astype(np.float32)


def _noise(random: np.random.Generator, size: int) -> _Field:
    """Three fields of unit variance, [size,size,3], whose amplitudes fall as 1/f^0.8 to 1/f^1.5."""
    down, across = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    # One axis is stretched: wood, grass and water have a direction.
    stretch = np.exp(random.normal(0, 0.4))
    frequency = np.hypot(down * stretch, across / stretch)
    frequency[0, 0] = np.inf
    amplitude = (frequency ** -random.uniform(0.8, 1.5)).astype(np.float32)
    real, imaginary = random.standard_normal((2, 3, *frequency.shape), np.float32)
    fields = np.fft.irfft2((real + 1j * imaginary) * amplitude, s=(size, size))
    fields /= fields.std(axis=(1, 2), keepdims=True) + 1e-9
    return np.ascontiguousarray(fields.transpose(1, 2, 0), np.float32)


def _shape(random: np.random.Generator, size: int) -> _Field:
    """Where a shape lies, [size,size], 0 to 1: an ellipse, a blob or a convex polygon."""
    y, x = _grid(size) / 2 - random.uniform(-0.5, 0.5, (2, 1, 1)).astype(np.float32)
    radius = random.uniform(0.05, 0.45)
    kind = random.integers(3)
    if kind == 0:
        turn = random.uniform(0, np.pi)
        along, beside = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        distance = np.hypot(along, beside * random.uniform(1, 4)) - radius
    elif kind == 1:
        lobes = np.arctan2(y, x) * random.integers(2, 8) + random.uniform(0, 2 * np.pi)
        distance = np.hypot(x, y) - radius * (1 + 0.3 * np.sin(lobes))
    else:
        sides = random.uniform(0, 2 * np.pi, random.integers(3, 7))
        distance = np.max([x * np.cos(side) + y * np.sin(side) - radius for side in sides], axis=0)
    # Most edges are one pixel wide, some are out of focus.
    width = random.uniform(1, 2) if random.random() < 0.8 else random.uniform(4, 16)
    return np.asarray(np.clip(0.5 - distance * (size / width), 0, 1), np.float32)


def _ramp(random: np.random.Generator, size: int) -> _Field:
    """A plane that falls from 1 to -1 in some direction, [size,size]."""
    y, x = _grid(size)
    turn = random.uniform(0, 2 * np.pi)
    return np.asarray((x * np.cos(turn) + y * np.sin(turn)) / np.sqrt(2), np.float32)


def _grid(size: int) -> _Field:
    """y and x of every pixel, -1 to 1, [2,size,size]."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"))
