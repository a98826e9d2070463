"""A worker's region: the anonymous shared memory that is its engine's input and output.

The supervisor makes it as a sealed memfd; the worker and its frontend map it; nobody else can.
Output first, then input, so that a small batch touches few pages.
"""

from __future__ import annotations

import contextlib
import mmap

import numpy as np
from numpy.typing import NDArray

from corral.system import memfd
from corral.tensors import Datatype, Signature

_PAGE = mmap.PAGESIZE


def _round_up(size: int) -> int:
    return (size + _PAGE - 1) // _PAGE * _PAGE


def region_bytes(signature: Signature, max_batch: int) -> int:
    """Bytes of a region that holds one batch of ``max_batch`` items and its result."""
    return _round_up(signature.output_bytes * max_batch) + _round_up(
        max(signature.input_bytes.values()) * max_batch
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
        self._signature = signature
        self.max_batch = max_batch
        self._mapping = mmap.mmap(fd, region_bytes(signature, max_batch))
        #: the raw mapping, to copy requests into at ``input_offset``
        self.memory = memoryview(self._mapping)
        self.input_offset = _round_up(signature.output_bytes * max_batch)

    def inputs(self, datatype: Datatype, count: int) -> NDArray[np.generic]:
        """The first ``count`` items of the input area as ``[count, *item shape]``, no copy."""
        shape = (count, *self._signature.input_shapes[datatype])
        return np.ndarray(shape, datatype.numpy, self._mapping, self.input_offset)

    def outputs(self, count: int) -> NDArray[np.float32]:
        """The first ``count`` results as FP32 ``[count, *output shape]``, no copy."""
        shape = (count, *self._signature.output_shape)
        return np.ndarray(shape, np.float32, self._mapping, 0)

    def touch(self, count: int) -> None:
        """Writes every page that batches of up to ``count`` items use, from the calling thread.

        The kernel places a page on the node of the CPU that first writes it: the pinned
        worker calls this, so its frontend never pays for page faults, nor the engine for distance.
        """
        ends = [
            (0, self._signature.output_bytes * count),
            (self.input_offset, max(self._signature.input_bytes.values()) * count),
        ]
        for start, length in ends:
            self.memory[start : start + length : _PAGE] = bytes(len(range(0, length, _PAGE)))

    def close(self) -> None:
        """Unmaps the region where nobody holds a view of it any more; else that does, later."""
        self.memory.release()
        with contextlib.suppress(BufferError):
            self._mapping.close()
