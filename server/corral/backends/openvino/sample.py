"""Answers to a sample by which a graph that was loaded is known to be the one that was kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corral.backends.noise import is_picture, noise

_Arrays = Sequence[NDArray[np.generic]]
#: of each output so many values are kept
_MOST_VALUES = 4096
#: larger items are answered as they lie there: noise of them takes its time
_MOST_BYTES = 16 * 2**20
#: of the largest answer: kernels of one engine on one CPU differ by less
_TOLERANCE = 1e-3


def answers(run: Callable[[], None], inputs: _Arrays, outputs: _Arrays) -> list[bytes]:
    """What the first item is answered with: noise where it is floats or pixels.

    The inputs are as before afterwards. It raises what ``run`` does.

    Args:
        run: runs the batch that lies in ``inputs``.
        inputs: [n,...] each; whole numbers stay, for they may be places in a table.
        outputs: [n,...] each.

    Returns:
        the first values of each output, as they lie in memory.
    """
    with _noise(inputs):
        run()
    return [output.reshape(-1)[:_MOST_VALUES].tobytes() for output in outputs]


@contextlib.contextmanager
def _noise(inputs: _Arrays) -> Iterator[None]:
    generator = np.random.default_rng(0)
    before: list[tuple[NDArray[Any], NDArray[Any]]] = []
    try:
        for array in inputs:
            item = array[:1]
            is_any = item.dtype.kind == "f" or is_picture(item.dtype, item.shape)
            if is_any and item.nbytes <= _MOST_BYTES:
                before.append((item, item.copy()))
                item[...] = noise(generator, item.dtype, item.shape)
        yield
    finally:
        for item, content in before:
            item[...] = content


def agree(kept: Sequence[bytes], found: Sequence[bytes], outputs: _Arrays) -> bool:
    """Whether two results of ``answers`` are those of one graph.

    Args:
        kept: the one.
        found: the other.
        outputs: whose datatypes they have; whole numbers, and BF16's bits, are the same or not.
    """
    if len(kept) != len(found):
        return False
    for one, other, output in zip(kept, found, outputs, strict=True):
        if one == other:
            continue
        if len(one) != len(other) or output.dtype.kind != "f":
            return False
        before, after = (
            np.frombuffer(each, output.dtype).astype(np.float64) for each in (one, other)
        )
        finite = np.isfinite(before)
        if not np.array_equal(finite, np.isfinite(after)):
            return False
        apart = np.abs(before[finite] - after[finite]).max(initial=0.0)
        if apart > _TOLERANCE * np.abs(before[finite]).max(initial=0.0):
            return False
    return True
