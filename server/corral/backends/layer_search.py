"""Finds the layers whose INT8 costs too much, whatever the engine: they stay in higher precision.

Three photographs of four calibrate; the fourth is held out, to judge what was made. It is run on
this CPU, so that what saturates here counts. Where the CPU sums u8 x i8 products in 16 bits,
weights of 7 bits and of 8 are both tried, and the better stays. Where that does not do, blocks of
layers are quantized one at a time to learn what noise each adds, and those are left out that take
most noise for their time, until the accuracy lost and the noise are within the guard's thresholds.
What is left out runs in the quickest arithmetic with which that can be had.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from corral.accuracy import Fidelity, as_lists, compare, describe, faults
from corral.backends.boxes import compare_tensors
from corral.backends.mixed_precision import blocks, fewest, ranked

if TYPE_CHECKING:
    from corral.backends.job import BuildJob

_log = logging.getLogger(__name__)

Model = TypeVar("Model")
#: a model's float outputs by name, [n,...], for inputs of one item each; or what its sorts take
Answers = Callable[[Model, Sequence[NDArray[Any]]], Mapping[str, NDArray[Any]]]

#: that noise is measured of apart; more would take longer and find no more
_BLOCKS = 16
#: pictures that a block's noise is measured on: it varies less than what becomes of labels
_NOISE_PICTURES = 20
#: times that a larger set of blocks is tried
_TRIES = 6
#: the predicted noise is aimed lower than allowed, for it is a prediction
_MARGIN = 0.8


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer with weights, and what is quantized between it and the next one.

    Attributes:
        names: of the engine's operations.
        cost: what it takes in FP32, about proportional to time.
    """

    names: tuple[str, ...]
    cost: float


@dataclasses.dataclass(frozen=True)
class Quantized(Generic[Model]):
    """A model in INT8, and what can be left out of it.

    Attributes:
        name: one phrase for the log.
        model: all of it in INT8.
        layers: called for its layers, first to last.
        without: by the arithmetic that layers left out then run in, quickest first, FP32 last.
            Called with operations' names: the same with these left out. The last one that it gave
            counts, earlier ones may be lost.
    """

    name: str
    model: Model
    layers: Callable[[], list[Layer]]
    without: Mapping[str, Callable[[frozenset[str]], Model]]


class Judge(Generic[Model]):
    """Compares models with FP32 on pictures that did not calibrate.

    Args:
        answers: runs a model.
        exact: the one in FP32.
        inputs: one item each, [1,...].
        pictures: which photograph each is of, [n].
        by_classes: whether there is one output, of which accuracy can be told.
    """

    def __init__(
        self,
        answers: Answers[Model],
        exact: Model,
        inputs: Sequence[NDArray[Any]],
        pictures: NDArray[np.intp],
        *,
        by_classes: bool,
    ) -> None:
        self._by_classes = by_classes
        self._answers = answers
        self._inputs = inputs
        self._pictures = pictures
        self._expected = answers(exact, inputs)

    @property
    def compares(self) -> bool:
        """Whether there are floats to compare."""
        return bool(self._expected)

    def fidelity(self, model: Model) -> Fidelity:
        """Against FP32; of several outputs, the worst's."""
        found = self._answers(model, self._inputs)
        if not self._by_classes:
            return compare_tensors(self._expected, self._named(found), self._pictures)
        (expected,), (other,) = self._expected.values(), found.values()
        return compare(as_lists(expected), as_lists(other), self._pictures)

    def noise(self, model: Model) -> float:
        """Energy of the difference over that of FP32's answers, the worst output's."""
        few = {name: one[:_NOISE_PICTURES] for name, one in self._expected.items()}
        found = self._answers(model, self._inputs[:_NOISE_PICTURES])
        return float(10 ** (-compare_tensors(few, self._named(found)).snr_db / 10))

    def _named(self, found: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """By FP32's names: a quantizer may rename what lies inside, in the same order."""
        if found.keys() == self._expected.keys():
            return found
        if len(found) != len(self._expected):
            raise ValueError(f"outputs {sorted(found)} against {sorted(self._expected)}")
        return dict(zip(self._expected, found.values(), strict=True))


def within_thresholds(
    ways: Sequence[Quantized[Model]], judge: Judge[Model], job: BuildJob
) -> Model:
    """The best of what is tried: the first that the guard's thresholds let pass, else the last.

    Args:
        ways: one or more; the one with the least noise is taken.
        judge: of the same model.
        job: has the thresholds, and is told how far the search has come.
    """
    job.at("search layers", 0.0)
    if not judge.compares:
        _log.warning(
            "no layers are searched for: no answer is a float, nor known to be made of one"
        )
        return ways[0].model
    all_found = [judge.fidelity(way.model) for way in ways]
    if len(ways) > 1:
        told = [f"{way.name}: {describe(one)}" for way, one in zip(ways, all_found, strict=True)]
        _log.info("%s", "; ".join(told))
    # Of those that are alike, the first.
    number = max(range(len(ways)), key=lambda index: all_found[index].snr_db)
    best, found = ways[number], all_found[number]
    if _passes(found, job):
        _log.info("no layer left out: %s", describe(found))
        return best.model
    parts = best.layers()
    groups = blocks(parts, _BLOCKS)
    order, noises = _by_noise(best, groups, judge, job)
    allowed = _MARGIN * 10 ** (-job.thresholds.snr_db / 10)
    first = max(1, fewest(noises, order, allowed))
    mixed = best.model
    for number, (arithmetic, without) in enumerate(best.without.items()):
        if number + 1 < len(best.without):
            # Where this arithmetic is too noisy by itself, no choice of layers helps.
            found = judge.fidelity(without(_names(parts)))
            if not _passes(found, job):
                _log.info("nothing but %s: %s", arithmetic, describe(found))
                continue
        for count in range(first, min(first + _TRIES, len(groups) + 1)):
            job.at("search layers", 0.7 + 0.3 * (count - first) / _TRIES)
            left = [part for block in order[:count] for part in groups[block]]
            mixed = without(_names(left))
            found = judge.fidelity(mixed)
            _log.info(
                "%d of %d layers left out, in %s: %s",
                len(left),
                len(parts),
                arithmetic,
                describe(found),
            )
            if _passes(found, job):
                if len(left) == len(parts):
                    _log.warning("no layer stays in INT8: what is called int8 is %s", arithmetic)
                return mixed
    return mixed


def _by_noise(
    best: Quantized[Model], groups: list[list[Layer]], judge: Judge[Model], job: BuildJob
) -> tuple[list[int], list[float]]:
    """Numbers of blocks in the order in which they are left out, and the noise of each.

    The others are in FP32: the noise of any other arithmetic would count once a block.
    """
    every = _names([part for group in groups for part in group])
    alone = list(best.without.values())[-1]
    noises = []
    for number, group in enumerate(groups):
        job.at("search layers", 0.1 + 0.6 * number / len(groups))
        noises.append(judge.noise(alone(every - _names(group))))
    return ranked(noises, [sum(part.cost for part in group) for group in groups]), noises


def _names(parts: Sequence[Layer]) -> frozenset[str]:
    return frozenset(name for part in parts for name in part.names)


def _passes(found: Fidelity, job: BuildJob) -> bool:
    """Whether the guard would let it pass, and its noise is low, too."""
    quiet = found.snr_db >= job.thresholds.snr_db
    return quiet and not faults(found, job.thresholds, synthetic=False)
