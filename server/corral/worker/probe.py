"""What warm-up finds out of a model by its answers: whether items see one another, and its output.

A batch is a convenience of the server's: strangers' requests share it, so an answer must not
depend on what lies beside it. A network that was exported in training mode, a softmax over the
batch, or activations that are quantized by the whole batch's range break that without a word.

The engine's own noise is left out in two ways. Batches of one size run through the same kernels,
so there the same item beside other strangers must answer the same, but for what the engine does
not repeat either. A batch of one may run through other kernels: there only what no arithmetic
explains counts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from corral.backends.base import Backend
from corral.ipc.messages import LOGITS, PROBABILITIES
from corral.ipc.region import Region
from corral.tensors import Datatype

#: of the answer's largest value: what strangers of the same batch size may change
_SAME_SIZE = 1e-3
#: how much more than the engine's own repetitions differ counts
_OVER_NOISE = 4.0
#: of the answer's largest value: what another batch size may change, in FP32 and in less
_OTHER_SIZE = 0.01
_OTHER_SIZE_COARSE = 0.25
#: how far from 1 probabilities may add up to, in FP32 and in less
_SUM = 1e-3
_SUM_COARSE = 0.02
#: values below the largest of all answers by this factor are no scale to judge by
_FLOOR = 1e-3


#: some items of each input
Items = list[NDArray[np.generic]]


@dataclasses.dataclass(frozen=True)
class Probe:
    """Runs items of its own through a backend; leaves zeros in the region.

    Args:
        backend: with batches of one compiled.
        region: its input and output.
        datatype: of the items.
        exact: whether the arithmetic is FP32.
    """

    backend: Backend
    region: Region
    datatype: Datatype
    exact: bool

    def output_kind(self) -> str:
        """``PROBABILITIES`` or ``LOGITS`` of a list of classes; empty where it is none.

        Probabilities are none of them negative and add up to 1, whatever the item.
        """
        if not self.region.plain:
            return ""
        shape = self.region.outputs(1).shape[1:]
        classes = math.prod(shape)
        if classes < 2 or max(shape) != classes:
            return ""
        rows = np.stack([self._run(self._items(seed, 1))[0][0] for seed in (0, 1, 2)])
        if not np.isfinite(rows).all():
            return ""
        slack = _SUM if self.exact else _SUM_COARSE
        adds_up = np.abs(rows.sum(axis=1, dtype=np.float64) - 1) <= slack
        return PROBABILITIES if rows.min() >= 0 and adds_up.all() else LOGITS

    def fault(self, size: int) -> str:
        """Why batches of ``size`` items, 2 or more, give other answers; empty where they do not."""
        item = self._items(0, 1)
        mild, strong = self._items(1, size), self._items(2, size, strength=4.0)
        mildly, strongly = _joined(item, mild, 1), _joined(item, strong, 1)
        runs = (
            self._run(item),
            self._run(mildly),
            self._run(mildly),
            self._run(strongly),
            self._run(_joined([each[1:] for each in strong], item, 0)),
        )
        # Outputs have scales of their own: boxes are pixels, scores are shares.
        faults = (self._fault_of(size, answers) for answers in zip(*runs, strict=True))
        return next(filter(None, faults), "")

    def _fault_of(self, size: int, answers: Sequence[NDArray[np.float64]]) -> str:
        """The same for one output, by its answers to the item in five surroundings."""
        alone, beside, again, beside_others, at_the_end = answers
        scale = max(
            _largest(alone, beside[0], beside_others[0]),
            _FLOOR * _largest(beside, beside_others),
            float(np.finfo(np.float32).tiny),
        )
        noise = _OVER_NOISE * _difference(beside[0], again[0])
        by_strangers = _difference(beside[0], beside_others[0])
        if by_strangers > max(_SAME_SIZE * scale, noise):
            share = by_strangers / scale
            return f"an answer changes by {share:.2g} of itself with what lies beside it in a batch"
        by_size = max(_difference(alone[0], beside[0]), _difference(alone[0], at_the_end[-1]))
        allowed = _OTHER_SIZE if self.exact else _OTHER_SIZE_COARSE
        if by_size > max(allowed * scale, noise):
            return f"an answer changes by {by_size / scale:.2g} of itself in a batch of {size}"
        return ""

    def _run(self, items: Items) -> list[NDArray[np.float64]]:
        """Each output's answers, [n,values], as copies; the inputs are zero again afterwards."""
        count = len(items[0])
        inputs = self.region.all_inputs(self.datatype, count)
        for place, item in zip(inputs, items, strict=True):
            place[:] = item
        self.backend.run(self.datatype, count)
        outputs = self.region.all_outputs(count)
        answers = [each.reshape(count, -1).astype(np.float64) for each in outputs]
        for place in inputs:
            place[:] = 0
        return answers

    def _items(self, seed: int, count: int, strength: float = 1.0) -> Items:
        """Noise in the model's range; whole numbers that may be places in a table stay 0 and 1."""
        generator = np.random.default_rng(seed)
        items: Items = []
        for place in self.region.all_inputs(self.datatype, count):
            kind, shape = place.dtype, place.shape
            if kind.kind == "f":
                noise = (strength * generator.normal(strength - 1, 1, shape)).astype(kind)
            elif kind == np.uint8 and len(shape) == 4:
                noise = generator.integers(0, 256, shape).astype(kind)
            else:
                noise = generator.integers(0, 2, shape).astype(kind)
            items.append(noise)
        return items


def _joined(first: Items, rest: Items, start: int) -> Items:
    """Each input's items one after another, those of ``rest`` from ``start`` on."""
    return [np.concatenate([a, b[start:]]) for a, b in zip(first, rest, strict=True)]


def _largest(*answers: NDArray[np.float64]) -> float:
    """The largest finite value, without its sign; 0 where there is none."""
    return max(float(np.abs(a[np.isfinite(a)]).max(initial=0.0)) for a in answers)


def _difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The largest difference; infinite where one is a number and the other is none."""
    odd_one, odd_other = ~np.isfinite(one), ~np.isfinite(other)
    if not np.array_equal(odd_one, odd_other):
        return math.inf
    return float(np.abs(np.where(odd_one, 0, one - other)).max(initial=0.0))
