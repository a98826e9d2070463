"""A worker's region: the anonymous shared memory that is its engine's input and output.

The supervisor makes it as a sealed memfd; the worker and its frontend map it; nobody else can.
Output first, then input, so that a small batch touches few pages. Several outputs lie one behind
another, each with room for the largest batch, and so do several inputs: an engine takes each of
them as one contiguous array.
"""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from corral.system import memfd
from corral.tensors import Datatype, Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PAGE = mmap.PAGESIZE
#: engines read and write whole cache lines best, and the widest vectors are of one
_LINE = 64


def _round_up(size: int) -> int:
    return (size + _PAGE - 1) // _PAGE * _PAGE


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where the items of one input or output lie: from ``offset``, each of ``item_bytes``."""

    offset: int
    item_bytes: int


def places(
    specs: Sequence[TensorSpec], start: int, max_batch: int
) -> tuple[tuple[Place, ...], int]:
    """Where each of several lies from ``start``, and where the last one ends."""
    found = []
    for spec in specs:
        found.append(Place(start, spec.item_bytes))
        start += -(-spec.item_bytes * max_batch // _LINE) * _LINE
    return tuple(found), start


def _input_offset(signature: Signature, max_batch: int) -> int:
    return _round_up(places(signature.output_specs, 0, max_batch)[1])


def region_bytes(signature: Signature, max_batch: int) -> int:
    """Bytes of a region that holds one batch of ``max_batch`` items and its result."""
    start = _input_offset(signature, max_batch)
    return max(
        _round_up(places(signature.input_specs(datatype), start, max_batch)[1])
        for datatype in signature.datatypes
    )


def create_region(signature: Signature, max_batch: int) -> int:
    """Makes the memfd of a region, sealed against resizing; returns its descriptor."""
    return memfd.create("region", region_bytes(signature, max_batch))


class Region:
    """A mapping of a region; closes nothing but its own mapping.

    Args:
        fd: the region's descriptor; the caller keeps and closes it.
        signature: the model's.
        max_batch: the same number that the region was created with.
    """

    def __init__(self, fd: int, signature: Signature, max_batch: int) -> None:
        #: the model's
        self.signature = signature
        #: whether ``inputs`` and ``outputs`` are all there is
        self.plain = signature.plain
        self.max_batch = max_batch
        self._mapping = mmap.mmap(fd, region_bytes(signature, max_batch))
        #: the raw mapping, to copy requests into at ``input_offset``
        self.memory = memoryview(self._mapping)
        self.input_offset = _input_offset(signature, max_batch)
        #: where each input and output lies; of one alone: at the start of its area
        self.input_places, _ = places(signature.inputs, self.input_offset, max_batch)
        self.output_places, _ = places(signature.outputs, 0, max_batch)

    def inputs(self, datatype: Datatype, count: int) -> NDArray[np.generic]:
        """The first ``count`` items of the only input as ``[count, *item shape]``, no copy."""
        shape = (count, *self.signature.input_shapes[datatype])
        return self._array(shape, datatype, self.input_offset)

    def outputs(self, count: int) -> NDArray[np.float32]:
        """The first ``count`` results as FP32 ``[count, *output shape]``, no copy."""
        return self._array((count, *self.signature.output_shape), Datatype.FP32, 0)

    def all_inputs(self, datatype: Datatype, count: int) -> list[NDArray[np.generic]]:
        """Each input's first ``count`` items, no copy; the only one in this datatype."""
        specs = self.signature.input_specs(datatype)
        at, _ = places(specs, self.input_offset, self.max_batch)
        return self._arrays(specs, at, count)

    def all_outputs(self, count: int) -> list[NDArray[np.generic]]:
        """Each output's first ``count`` items, no copy."""
        specs = self.signature.output_specs
        at, _ = places(specs, 0, self.max_batch)
        return self._arrays(specs, at, count)

    def _arrays(
        self, specs: Sequence[TensorSpec], at: Sequence[Place], count: int
    ) -> list[NDArray[np.generic]]:
        return [
            self._array((count, *spec.shape), spec.datatype, place.offset)
            for spec, place in zip(specs, at, strict=True)
        ]

    def _array(self, shape: tuple[int, ...], datatype: Datatype, offset: int) -> NDArray[Any]:
        # Who makes regions, or copies bytes into them, needs no arrays; see tensors.py.
        import numpy as np

        return np.ndarray(shape, datatype.numpy, self._mapping, offset)

    def touch(self, count: int) -> None:
        """Writes every page that batches of up to ``count`` items use, from the calling thread.

        The kernel places a page on the node of the CPU that first writes it: the pinned
        worker calls this, so its frontend never pays for page faults, nor the engine for distance.
        """
        signature = self.signature
        ends = [
            (place.offset, place.item_bytes * count)
            for place in (*self.output_places, *self.input_places)
        ]
        if not signature.outputs:
            ends.append((0, signature.output_bytes * count))
        if not signature.inputs:
            ends.append((self.input_offset, max(signature.input_bytes.values()) * count))
        for start, length in ends:
            self.memory[start : start + length : _PAGE] = bytes(len(range(0, length, _PAGE)))

    def close(self) -> None:
        """Unmaps the region where nobody holds a view of it any more; else that does, later."""
        self.memory.release()
        with contextlib.suppress(BufferError):
            self._mapping.close()
