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

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from corral.backends.base import Backend
from corral.errors import ValuesRefused
from corral.ipc.messages import INDEPENDENT, LOGITS, PERCENTAGES, PROBABILITIES
from corral.ipc.region import Region
from corral.tensors import Datatype
from corral.worker.filling import Filling
from corral.worker.noise import APART, MILD, STRONG, Noise

_Answers = NDArray[np.float64]
T = TypeVar("T")
#: where the model takes none of the items
_UNKNOWN = "whether its items see one another could not be found out: it took no values tried"
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


@dataclasses.dataclass(frozen=True)
class Probe:
    """Runs items of its own through a backend; leaves the filling in the region.

    Args:
        backend: with batches of one compiled.
        region: its input and output.
        filling: what the model takes.
        datatype: of the items.
        exact: whether the arithmetic is FP32.
    """

    backend: Backend
    region: Region
    filling: Filling
    datatype: Datatype
    exact: bool

    def output_kind(self) -> str:
        """``PROBABILITIES``, ``PERCENTAGES``, ``INDEPENDENT`` or ``LOGITS`` of a list of classes.

        Of anything else it is empty. Probabilities are none of them negative and add up to 1, or in
        percent to 100, whatever the item. Those of classes
        that do not exclude one another (a sigmoid's) lie between 0 and 1, however strong the item.
        """
        shape = self.region.outputs(1).shape[1:]
        classes = math.prod(shape)
        if not self.region.plain or classes < 2 or max(shape) != classes:
            return ""
        return self._first_taken(self._output_kind, "")

    def _output_kind(self, draw: Noise) -> str:
        rows = np.stack([self._run(draw(seed, 1, 1.0))[0][0] for seed in (0, 1, 2)])
        if not np.isfinite(rows).all():
            return ""
        slack = _SUM if self.exact else _SUM_COARSE
        if rows.min() < 0:
            return LOGITS
        for whole, kind in ((1, PROBABILITIES), (100, PERCENTAGES)):
            if (np.abs(rows.sum(axis=1) / whole - 1) <= slack).all():
                return kind
        strong = np.stack([self._run(draw(seed, 1, 50.0))[0][0] for seed in (3, 4)])
        both = np.concatenate([rows, strong])
        # Answers that an item does not move say nothing of where they end.
        moved = float(np.ptp(both, axis=0).max()) > slack
        is_share = np.isfinite(strong).all() and both.min() >= 0 and both.max() <= 1
        return INDEPENDENT if moved and is_share else LOGITS

    def repeated(self, size: int) -> str:
        """How the answers to the filling, which lie in the region, change when it is run again.

        It is empty where they stay. It costs one batch.
        """
        before = self._answers(size)
        self.backend.run(self.datatype, size)
        pairs = zip(before, self._answers(size), strict=True)
        return next((told for one, other in pairs if (told := self._moved(one, other))), "")

    def _moved(self, one: _Answers, other: _Answers) -> str:
        scale = max(_largest(one, other), float(np.finfo(np.float32).tiny))
        share = _difference(one, other) / scale
        if share <= (_OTHER_SIZE if self.exact else _OTHER_SIZE_COARSE):
            return ""
        return (
            f"an answer changes by {share:.2g} of itself when the same input comes again: "
            "the model keeps something between requests, or draws at random"
        )

    def fault(self, size: int) -> tuple[str, str]:
        """Why batches of ``size`` items, 2 or more, give other answers, and how they do not repeat.

        Either is empty where there is nothing to tell.
        """
        return self._first_taken(functools.partial(self._fault_by, size), (_UNKNOWN, ""))

    def _first_taken(self, look: Callable[[Noise], T], otherwise: T) -> T:
        """What is seen with the first kind of items that the model takes."""
        for low in (None, 0, 1, APART):
            draw = Noise(self.region.signature, self.datatype, low)
            with contextlib.suppress(ValuesRefused):
                return look(draw)
        return otherwise

    def _fault_by(self, size: int, draw: Noise) -> tuple[str, str]:
        item, mild = draw(0, 1, MILD), draw(1, size, MILD)
        strong, negative = draw(2, size, STRONG), draw(2, size, -STRONG)
        mildly = [np.concatenate([one, some[1:]]) for one, some in zip(item, mild, strict=True)]
        strongly = [np.concatenate([one, some[1:]]) for one, some in zip(item, strong, strict=True)]
        # A graph may go by the least of a batch, or branch by a mean that is low.
        at_the_end = [
            np.concatenate([some[1:], one]) for one, some in zip(item, negative, strict=True)
        ]
        runs = zip(
            self._run(item),
            self._run(mildly),
            self._run(mildly),
            self._run(strongly),
            self._run(at_the_end),
            strict=True,
        )
        # Each output by itself: one's scale says nothing of another's.
        told = [
            (self._fault(size, alone[0], batches), self._moved(batches[0], batches[1]))
            for alone, *batches in runs
        ]
        faults, moved = zip(*told, strict=True)
        fault = next(filter(None, faults), "") or self._fault_by_signs(size, draw)
        return fault, next(filter(None, moved), "")

    def _fault_by_signs(self, size: int, draw: Noise) -> str:
        """The same of an item that is above zero throughout, and of one that is below.

        What a graph asks of a whole batch (is any of it above zero? above one?) noise answers by
        itself.
        """
        high, low = draw(5, size, math.inf), draw(5, size, -math.inf)
        low_ones = [np.concatenate([one[1:], one[:1]]) for one in low]
        mixed = [
            np.concatenate([one[:1], some[1:]]) for one, some in zip(high, low_ones, strict=True)
        ]
        try:
            highs, lows, both = map(self._run, (high, low_ones, mixed))
            if not self._between(highs, lows, both, both):
                return ""
            # The engine may repeat nothing: how much that is costs one more batch.
            return self._between(highs, lows, both, self._run(mixed))
        except ValuesRefused:
            return ""

    def _between(
        self,
        highs: Sequence[_Answers],
        lows: Sequence[_Answers],
        both: Sequence[_Answers],
        again: Sequence[_Answers],
    ) -> str:
        """How answers change where the first item is of the one batch, the others of the other."""
        for *alike, mixed, repeated in zip(highs, lows, both, again, strict=True):
            for place, batch in enumerate(alike):
                noise = _OVER_NOISE * _difference(mixed[place], repeated[place])
                if fault := self._by_strangers(batch, mixed, place, noise):
                    return fault
        return ""

    def _by_strangers(
        self, beside: _Answers, beside_others: _Answers, place: int, noise: float
    ) -> str:
        """How the answer to the item at one place changes with the others, in batches of one size.

        Args:
            beside: answers of one batch.
            beside_others: of one with the same item, and others.
            place: the item's.
            noise: what the engine itself does not repeat.
        """
        one, other = beside[place], beside_others[place]
        found, scale = _difference(one, other), _scale((one, other), (beside, beside_others))
        if found <= max(_SAME_SIZE * scale, noise):
            return ""
        share = found / scale
        return f"an answer changes by {share:.2g} of itself with what lies beside it in a batch"

    def _fault(self, size: int, alone: _Answers, batches: Sequence[_Answers]) -> str:
        """The same of one output: the item's answers alone, and those of four batches.

        The item is the first of the first three, of which two are the same, and the last of one.
        """
        beside, again, beside_others, at_the_end = batches
        scale = _scale((alone, beside[0], beside_others[0]), (beside, beside_others))
        noise = _OVER_NOISE * _difference(beside[0], again[0])
        if fault := self._by_strangers(beside, beside_others, 0, noise):
            return fault
        by_size = max(_difference(alone, beside[0]), _difference(alone, at_the_end[-1]))
        allowed = _OTHER_SIZE if self.exact else _OTHER_SIZE_COARSE
        if by_size > max(allowed * scale, noise):
            return f"an answer changes by {by_size / scale:.2g} of itself in a batch of {size}"
        return ""

    def _run(self, items: Sequence[NDArray[np.generic]]) -> list[_Answers]:
        """Each output's answers, [n,values], as copies; the inputs are zero again afterwards."""
        count = len(items[0])
        inputs = self.region.all_inputs(self.datatype, count)
        for place, given in zip(inputs, items, strict=True):
            place[:] = given
        try:
            self.backend.run(self.datatype, count)
        finally:
            self.filling.put(self.datatype, count)
        return self._answers(count)

    def _answers(self, count: int) -> list[_Answers]:
        """The outputs that lie in the region, as copies."""
        specs = self.region.signature.output_specs
        outputs = zip(self.region.all_outputs(count), specs, strict=True)
        return [_numbers(output.reshape(count, -1), spec.datatype) for output, spec in outputs]


def _numbers(values: NDArray[np.generic], datatype: Datatype) -> _Answers:
    """A copy in FP64; BF16 comes as its bits."""
    if datatype is Datatype.BF16:
        return (values.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return values.astype(np.float64)


def _scale(answers: Sequence[_Answers], batches: Sequence[_Answers]) -> float:
    """What differences of an item's answers are shares of."""
    return max(_largest(*answers), _FLOOR * _largest(*batches), float(np.finfo(np.float32).tiny))


def _largest(*answers: _Answers) -> float:
    """The largest finite value, without its sign; 0 where there is none."""
    return max(float(np.abs(a[np.isfinite(a)]).max(initial=0.0)) for a in answers)


def _difference(one: _Answers, other: _Answers) -> float:
    """The largest difference; infinite where one is a number and the other is none."""
    odd_one, odd_other = ~np.isfinite(one), ~np.isfinite(other)
    if not np.array_equal(odd_one, odd_other):
        return math.inf
    # Infinity less infinity is a warning that nobody understands.
    differences = np.where(odd_one, 0, one) - np.where(odd_one, 0, other)
    return float(np.abs(differences).max(initial=0.0))
