"""What lies in the region while a worker warms up: zeros, or what the model takes instead.

A graph that divides whole numbers by an input, or counts with one, takes no zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from corral.backends.noise import numbers
from corral.errors import ValuesRefused
from corral.ipc.region import Region
from corral.tensors import Datatype

T = TypeVar("T")


class Filling:
    """A value for each input, the same everywhere in it.

    Tried are what lies in the region (zeros, in a new one), ones, and 1 in the first input, 2 in
    the second and so on. What was taken last is tried first the next time.

    Args:
        region: whose inputs are filled.
    """

    def __init__(self, region: Region) -> None:
        self._region = region
        count = len(region.signature.input_specs(region.signature.native))
        others = [(1,) * count, tuple(range(1, count + 1))]
        #: what is in use; zeros at first
        self.values = (0,) * count
        self._candidates = [self.values, *dict.fromkeys(others)]

    def until_taken(self, datatype: Datatype, count: int, attempt: Callable[[], T]) -> T:
        """The attempt's result with the first of the values that the model takes.

        Raises:
            ValuesRefused: it takes none; the reason is that of the first.
        """
        if any(self.values):
            # Another size's lie elsewhere.
            self.put(datatype, count)
        try:
            return attempt()
        except ValuesRefused as error:
            reason = error
        before = self.values
        for values in self._candidates:
            self.values = values
            if values == before:
                continue
            self.put(datatype, count)
            try:
                return attempt()
            except ValuesRefused:
                continue
        self.values = before
        self.put(datatype, count)
        raise reason

    def put(self, datatype: Datatype, count: int) -> None:
        """Fills the inputs of ``count`` items."""
        specs = self._region.signature.input_specs(datatype)
        places = self._region.all_inputs(datatype, count)
        for value, spec, place in zip(self.values, specs, places, strict=True):
            place[:] = numbers(np.array(value), spec.datatype)
