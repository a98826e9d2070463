"""A graph that answers one batch size alone: how one item at a time is made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from corral.backends.noise import noise, numbers
from corral.errors import ModelError
from corral.models.spec import ModelSpec
from corral.tensors import Datatype, TensorSpec

Arrays: TypeAlias = list[NDArray[Any]]
#: inputs to outputs; raises what an engine raises
Run: TypeAlias = Callable[[Arrays], Arrays]
#: of what is equal but for rounding, of the largest value
_SAME = 1e-3
#: the same of an item beside others, and where INT8 takes its range from the whole batch
_SAME_BESIDE, _SAME_IN_INT8 = 0.01, 0.25
#: sizes that are tried, where a graph has many numbers that might be one
_MOST_TRIED = 16
#: a constant of more values is no shape
_MOST_SIDES = 8
_MOST_BATCH = 256
#: the graph is left as it is
AS_IT_IS = 0


def way(spec: ModelSpec, run: Run, run_of_one: Run, sizes: Sequence[int]) -> int:
    """How a graph is made to take one item.

    The graph for one, where only its declarations know a batch; else the graph as it is, run on
    copies of the item, of whose answers the first is kept. What is for one is believed where it
    answers an item as the batch does: a reshape to [4,-1] in the middle may give it the right
    shape and other numbers.

    Args:
        spec: of the file; where it fixes no batch, the graph may do so all the same.
        run: the graph as it is.
        run_of_one: the graph with a batch of one.
        sizes: what the graph might fix its batch at, where the file says nothing of it.

    Returns:
        AS_IT_IS; 1: the graph for one; more: the copies.

    Raises:
        ModelError: there is no way.
    """
    batch = spec.fixed_batch
    if batch == 1:
        return AS_IT_IS
    if batch is None:
        return _found(spec, run, sizes)
    items = _items(spec, batch)
    together = _answers(run, _copies(items, batch))
    if together is None:
        # It takes no such values, or not its own batch, of which the warm-up has the word.
        return batch
    if _goes_with_items(spec, run, items, together):
        alone = _answers(run_of_one, _copies(items, 1))
        fits = alone is not None and _fits(spec, alone, 1)
        if fits and alone is not None and all(map(_alike, alone, together)):
            return 1
        if _is_batch(spec, run, batch):
            return batch
        if fits:
            return 1
    raise ModelError(
        f"--model {spec.file}: its batch is fixed at {batch}, and its answers do not go with the "
        f"{batch} items one by one: the batch is the first dimension of each input and output; "
        "export it with a dynamic one"
    )


def likely_sizes(constants: Sequence[NDArray[Any]]) -> list[int]:
    """The batches that whole numbers in a graph may mean, as the 4 of a reshape to [4,-1]."""
    found = {
        int(values.flat[0])
        for values in constants
        if values.dtype.kind == "i" and 0 < values.size <= _MOST_SIDES
    }
    return sorted(size for size in found if 1 < size <= _MOST_BATCH)


def _found(spec: ModelSpec, run: Run, sizes: Sequence[int]) -> int:
    """The batch that a graph takes where it takes no single item."""
    alone = _answers(run, _items(spec, 1)) if sizes else None
    if not sizes or (alone is not None and _fits(spec, alone, 1)):
        return AS_IT_IS
    tried = sizes[:_MOST_TRIED]
    return next((size for size in tried if _is_batch(spec, run, size)), AS_IT_IS)


def _is_batch(spec: ModelSpec, run: Run, count: int) -> bool:
    """Whether the first dimension of all answers is the batch: its rows go with the items.

    Rows of what is no batch may be equal, too (no boxes in noise): other items must change them.
    """
    items = _items(spec, count)
    equal, different = _answers(run, _copies(items, count)), _answers(run, items)
    if equal is None or different is None or not _fits(spec, equal, count):
        return False
    return all(
        _alike(rows[:1], rows) and not _alike(others[:1], others)
        for rows, others in zip(equal, different, strict=True)
    ) and _goes_with_items(spec, run, items, equal)


def _goes_with_items(spec: ModelSpec, run: Run, items: Arrays, equal: Arrays) -> bool:
    """Whether the last item gets beside others what it gets beside its copies.

    A matrix that is multiplied by is no batch, though equal rows of it give equal answers. Of a
    graph that answers the same input differently nothing is known: the warm-up has the word.

    Args:
        spec: of the file.
        run: the graph as it is.
        items: different ones.
        equal: what copies of the last of them get.
    """
    different = _answers(run, items)
    if different is None or [len(rows) for rows in different] != [len(rows) for rows in equal]:
        return True
    share = _SAME_IN_INT8 if spec.quantized else _SAME_BESIDE
    beside = zip(equal, different, strict=True)
    if all(_alike(rows[-1:], others[-1:], share) for rows, others in beside):
        return True
    again = _answers(run, items)
    return again is None or not all(map(_alike, different, again))


def _answers(run: Run, items: Arrays) -> Arrays | None:
    """What items get; None where the engine does not take them."""
    try:
        return run(items)
    # An engine raises what it likes.
    except Exception:
        return None


def _copies(items: Arrays, count: int) -> Arrays:
    """So many of the last item."""
    return [np.repeat(values[-1:], count, axis=0) for values in items]


def _items(spec: ModelSpec, count: int) -> Arrays:
    """So many different items of noise."""
    generator = np.random.default_rng(0)
    return [_noise(generator, port, count) for port in spec.signature.input_specs(spec.native)]


def _noise(generator: np.random.Generator, port: TensorSpec, count: int) -> NDArray[Any]:
    shape, kind = (count, *port.shape), port.datatype.numpy
    if port.datatype is Datatype.BF16:
        kind = np.dtype(np.float32)
    return numbers(noise(generator, kind, shape), port.datatype)


def _fits(spec: ModelSpec, answers: Arrays, count: int) -> bool:
    wanted = [(count, *port.shape) for port in spec.signature.output_specs]
    return [answer.shape for answer in answers] == wanted


def _alike(one: NDArray[Any], rows: NDArray[Any], share: float = _SAME) -> bool:
    """Whether each row is the one, but for such a share of its largest value."""
    wanted, found = one.astype(np.float64), rows.astype(np.float64)
    largest = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0))
    return wanted.shape[1:] == found.shape[1:] and np.allclose(
        found, wanted, rtol=0, atol=share * largest, equal_nan=True
    )
