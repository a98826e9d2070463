"""Finds the layers whose INT8 costs too much, whatever the engine: they stay in higher precision.

Three photographs of four calibrate. What was made is judged on all of them, and on those alone that
did not. It is run on this CPU, so that what saturates here counts. Where the CPU sums u8 x i8
products in 16 bits, weights of 7 bits and of 8 are both tried, and the better stays. Where that
does not do, blocks of layers are quantized one at a time to learn what noise each adds, and those
are left out that take most noise for their time, until the accuracy lost and the noise are so far
within the guard's thresholds that it is likely to let it pass on photographs of its own. What is
left out runs in the quickest arithmetic with which that can be had.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from corral.accuracy import Fidelity, as_lists, compare, describe, faults
from corral.accuracy.noise import without_ruled_out
from corral.backends.boxes import compare_tensors
from corral.backends.mixed_precision import blocks, fewest, ranked, smallest

if TYPE_CHECKING:
    from corral.backends.job import BuildJob

_log = logging.getLogger(__name__)

Model = TypeVar("Model")
#: a model's float outputs by name, [n,...], for inputs of one item each; or what its sorts take
Answers = Callable[[Model, Sequence[NDArray[Any]]], Mapping[str, NDArray[Any]]]

#: raise it whenever other layers of the same model are left out, or something else is remarked
FORMAT = 3
#: that noise is measured of apart; more would take longer and find no more
_BLOCKS = 16
#: pictures that a block's noise is measured on: it varies less than what becomes of labels
_NOISE_PICTURES = 20
#: sets of blocks that are tried
_TRIES = 6
#: photographs that the guard has, those that ship with corral
_GUARDS = 40
#: the predicted noise is aimed lower than allowed, for it is a prediction
_MARGIN = 0.8
#: what is said of INT8 in which nothing that takes time is in INT8
_NOTHING = "no convolution and no matrix product is in INT8"


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer with weights, and what is quantized between it and the next one.

    Attributes:
        names: of the engine's operations.
        cost: what it takes in FP32, about proportional to time.
        multiplies: whether a convolution or a matrix product of it is in INT8: what else is
            quantized, a pool or a sum, saves next to nothing.
    """

    names: tuple[str, ...]
    cost: float
    multiplies: bool = True


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
    """Compares models with FP32 on pictures of which some did not calibrate.

    Args:
        answers: runs a model.
        exact: the one in FP32.
        inputs: one item each, [1,...].
        pictures: which photograph each is of, [n].
        unseen: which did not calibrate, [n].
        by_classes: whether there is one output, of which accuracy can be told.
    """

    def __init__(
        self,
        answers: Answers[Model],
        exact: Model,
        inputs: Sequence[NDArray[Any]],
        pictures: NDArray[np.intp],
        unseen: NDArray[np.bool_],
        *,
        by_classes: bool,
    ) -> None:
        self._by_classes = by_classes
        self._answers = answers
        self._inputs = inputs
        self._pictures = pictures
        self._unseen = unseen
        self._expected = answers(exact, inputs)

    @property
    def compares(self) -> bool:
        """Whether there are floats to compare."""
        return bool(self._expected)

    def fidelities(self, model: Model) -> tuple[Fidelity, Fidelity]:
        """Against FP32, of several outputs the worst's: on all pictures, and on unseen ones."""
        found = self._named(self._answers(model, self._inputs))
        every = np.ones_like(self._unseen)
        return self._fidelity(found, every), self._fidelity(found, self._unseen)

    def _fidelity(self, found: Mapping[str, NDArray[Any]], chosen: NDArray[np.bool_]) -> Fidelity:
        expected, other = (
            {name: one[chosen] for name, one in answers.items()}
            for answers in (self._expected, found)
        )
        if not self._by_classes:
            return compare_tensors(expected, other, self._pictures[chosen])
        (exact,), (answer,) = expected.values(), other.values()
        return compare(as_lists(exact), as_lists(answer), self._pictures[chosen])

    def noise(self, model: Model) -> float:
        """Energy of the difference over that of FP32's answers, the worst output's."""
        few = {name: one[:_NOISE_PICTURES] for name, one in self._expected.items()}
        found = self._named(self._answers(model, self._inputs[:_NOISE_PICTURES]))
        if self._by_classes:
            # A class that both rule out by -inf is no broken answer.
            ((name, exact),), (other,) = few.items(), found.values()
            exact, other = without_ruled_out(as_lists(exact), as_lists(other))
            few, found = {name: exact}, {name: other}
        return float(10 ** (-compare_tensors(few, found).snr_db / 10))

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
    """The best of what is tried: all in INT8 if the guard is likely to let it pass, else a mixture.

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
        _tell_nothing(ways[0].layers(), job)
        return ways[0].model
    all_found = [judge.fidelities(way.model) for way in ways]
    if len(ways) > 1:
        told = [f"{way.name}: {_told(one)}" for way, one in zip(ways, all_found, strict=True)]
        _log.info("%s", "; ".join(told))
    # Of those that are alike, the first.
    number = max(range(len(ways)), key=lambda index: all_found[index][0].snr_db)
    best, found = ways[number], all_found[number]
    if _passes(found, job):
        _log.info("no layer left out: %s", _told(found))
        _tell_nothing(best.layers(), job)
        return best.model
    return _without_noisy(best, judge, job)


def _tell_nothing(kept: Sequence[Layer], job: BuildJob) -> None:
    """Says so where what is in INT8 has no layer that INT8 is for."""
    if not any(layer.multiplies for layer in kept):
        _log.warning("%s: it has nothing that INT8 would make faster", _NOTHING)
        job.remark(_NOTHING)


def _without_noisy(best: Quantized[Model], judge: Judge[Model], job: BuildJob) -> Model:
    """The same with as few blocks of layers left out as pass; with all of them where none does."""
    parts = best.layers()
    groups = blocks(parts, _BLOCKS)
    order, noises = _by_noise(best, groups, judge, job)
    arithmetic, without = _arithmetic(best, _names(parts), judge, job)
    tried = 0

    def left(count: int) -> list[Layer]:
        return [part for block in order[:count] for part in groups[block]]

    def passes(count: int) -> bool:
        nonlocal tried
        job.at("search layers", 0.7 + 0.3 * tried / _TRIES)
        tried += 1
        found = judge.fidelities(without(_names(left(count))))
        _log.info(
            "%d of %d layers left out, in %s: %s",
            len(left(count)),
            len(parts),
            arithmetic,
            _told(found),
        )
        return _passes(found, job)

    allowed = _MARGIN * 10 ** (-job.thresholds.snr_db / 10)
    first = max(1, fewest(noises, order, allowed))
    count = smallest(passes, first, len(groups), _TRIES)
    if count == len(groups):
        # The only one that was not tried: people are told what it has, too.
        passes(count)
        _log.warning("no layer stays in INT8: what is called int8 is %s", arithmetic)
        job.remark("no layer stays in INT8")
    else:
        _log.info("%d of %d layers stay out", len(left(count)), len(parts))
        _tell_nothing([part for block in order[count:] for part in groups[block]], job)
    return without(_names(left(count)))


def _arithmetic(
    best: Quantized[Model], every: frozenset[str], judge: Judge[Model], job: BuildJob
) -> tuple[str, Callable[[frozenset[str]], Model]]:
    """The quickest one, by name, in which layers left out run without too much noise of its own."""
    ways = list(best.without.items())
    for arithmetic, without in ways[:-1]:
        found = judge.fidelities(without(every))
        if _passes(found, job):
            return arithmetic, without
        # No choice of layers helps.
        _log.info("nothing but %s: %s", arithmetic, _told(found))
    return ways[-1]


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


def _told(found: Sequence[Fidelity]) -> str:
    every, unseen = found
    return f"{describe(every)}, {unseen.snr_db:.1f} dB where nothing calibrated"


def _passes(found: Sequence[Fidelity], job: BuildJob) -> bool:
    """Whether the guard is likely to let it pass, and its noise is low, too.

    It is to be low on those alone that did not calibrate: ranges may fit what they were measured
    on. They are too few to tell of labels.
    """
    every, unseen = found
    quiet = min(every.snr_db, unseen.snr_db) >= job.thresholds.snr_db
    return quiet and not faults(forecast(every), job.thresholds, synthetic=False)


def forecast(found: Fidelity) -> Fidelity:
    """What the guard finds on its own photographs, or better, 95 times of 100.

    A mean over other photographs lies further away than the bound of this one, for both have their
    luck: their variances add up. Of the loss, the guard goes by a bound of its own besides.

    Args:
        found: on photographs that judge here.
    """
    share = found.pictures / _GUARDS
    apart = math.sqrt(1 + share)
    noise, most = (10 ** (-db / 10) for db in (found.snr_db, found.snr_db_least or found.snr_db))
    expected = noise + apart * max(0.0, most - noise)
    changes = {"snr_db": -10 * math.log10(expected)}
    if found.snr_telling_db is not None:
        # Its luck is that of the ratio of the whole.
        changes["snr_telling_db"] = found.snr_telling_db + changes["snr_db"] - found.snr_db
    reach = apart + math.sqrt(share)
    for name in ("loss_shown", "loss_most"):
        bound = getattr(found, name)
        if found.loss is not None and bound is not None:
            changes[name] = found.loss + reach * (bound - found.loss)
    return msgspec.structs.replace(found, **changes)
