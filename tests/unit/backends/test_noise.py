"""Noise is what a model takes: floats, pixels, places in a table."""

from __future__ import annotations

import numpy as np

from corral.backends.noise import noise, numbers
from corral.tensors import Datatype


def test_noise_is_of_the_kind_that_an_input_takes() -> None:
    found = {
        (datatype, rank): noise(np.random.default_rng(0), datatype.numpy, (2, 3, 8, 8)[:rank])
        for datatype in (Datatype.FP16, Datatype.UINT8, Datatype.INT64, Datatype.BOOL)
        for rank in (2, 4)
    }
    assert all(values.dtype == datatype.numpy for (datatype, _), values in found.items())
    assert found[Datatype.FP16, 4].min() < 0 < found[Datatype.FP16, 4].max()
    assert found[Datatype.UINT8, 4].max() > 200
    assert set(np.unique(found[Datatype.UINT8, 2])) <= {0, 1}
    assert set(np.unique(found[Datatype.INT64, 4])) == {0, 1}


def test_numbers_of_bf16_are_its_bits() -> None:
    found = numbers(np.array([1.0, -2.0]), Datatype.BF16)
    assert found.dtype == np.uint16
    assert found.tolist() == [0x3F80, 0xC000]
    assert numbers(np.array([1.0, 2.0]), Datatype.INT64).dtype == np.int64
