"""Drawn pictures: the same every time, no two alike, and like photographs in what matters."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from corral.models.pictures import draw_pictures, normalise
from corral.models.spec import Recipe


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    return draw_pictures(12, 1, 96)


def test_shape_and_dtype(pictures: NDArray[np.uint8]) -> None:
    assert pictures.shape == (12, 96, 96, 3)
    assert pictures.dtype == np.uint8
    assert draw_pictures(0, 1, 96).shape == (0, 96, 96, 3)


def test_a_seed_gives_the_same_pictures_whatever_the_count(pictures: NDArray[np.uint8]) -> None:
    assert (draw_pictures(3, 1, 96) == pictures[:3]).all()
    assert (draw_pictures(3, 2, 96) != pictures[:3]).any(axis=(1, 2, 3)).all()


def test_no_two_pictures_are_alike(pictures: NDArray[np.uint8]) -> None:
    flat = pictures.reshape(12, -1).astype(float)
    correlation = np.corrcoef(flat)[np.triu_indices(12, 1)]
    assert np.abs(correlation).max() < 0.8


def test_they_span_the_range_of_brightness_and_contrast(pictures: NDArray[np.uint8]) -> None:
    assert 70 < pictures.mean() < 180
    assert pictures.mean((1, 2, 3)).std() > 15
    assert pictures.std((1, 2, 3)).min() > 15
    assert pictures.min() == 0
    assert pictures.max() == 255


def test_power_falls_with_frequency_as_in_photographs(pictures: NDArray[np.uint8]) -> None:
    """Photographs: as 1/f^2, give or take; white noise would give 0."""
    grey = pictures.mean(-1) - pictures.mean((1, 2, 3))[:, None, None]
    power = np.mean(np.abs(np.fft.fft2(grey)) ** 2, axis=0)
    frequency = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.fftfreq(96)[None])
    bounds = np.geomspace(0.02, 0.5, 9)
    rings = [
        power[(frequency >= low) & (frequency < high)].mean()
        for low, high in itertools.pairwise(bounds)
    ]
    middles = np.sqrt(bounds[1:] * bounds[:-1])
    slope = np.polyfit(np.log(middles), np.log(rings), 1)[0]
    assert -3 < slope < -1.5


def test_normalise_is_the_recipe() -> None:
    recipe = Recipe(mean=(10, 20, 30), std=(1, 2, 4))
    pixels = np.array([[[[11, 24, 42]], [[0, 0, 255]]]], np.uint8)
    inputs = normalise(pixels, recipe)
    assert inputs.shape == (1, 3, 2, 1)
    assert inputs.dtype == np.float32
    assert inputs.flags.c_contiguous
    assert inputs[0, :, :, 0].tolist() == [[1, -10], [2, -10], [3, 56.25]]
