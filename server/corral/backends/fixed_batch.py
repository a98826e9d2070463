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
    together, alone = _answers(spec, run, batch), _answers(spec, run_of_one, 1)
    if together is None:
        # It takes no such values, or not its own batch, of which the warm-up has the word.
        return batch
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
    alone = _answers(spec, run, 1) if sizes else None
    if not sizes or (alone is not None and _fits(spec, alone, 1)):
        return AS_IT_IS
    tried = sizes[:_MOST_TRIED]
    return next((size for size in tried if _is_batch(spec, run, size)), AS_IT_IS)


def _is_batch(spec: ModelSpec, run: Run, count: int) -> bool:
    """Whether the first dimension of all answers is the batch: its rows go with the items.

    Rows of what is no batch may be equal, too (no boxes in noise): other items must change them.
    """
    equal, different = _answers(spec, run, count), _answers(spec, run, count, equal=False)
    if equal is None or different is None or not _fits(spec, equal, count):
        return False
    return all(
        _alike(rows[:1], rows) and not _alike(others[:1], others)
        for rows, others in zip(equal, different, strict=True)
    )


def _answers(spec: ModelSpec, run: Run, count: int, *, equal: bool = True) -> Arrays | None:
    """What so many items get; None where the engine does not take them."""
    generator = np.random.default_rng(0)
    repeated = count if equal else 1
    items = [
        np.repeat(_items(generator, port, count // repeated), repeated, axis=0)
        for port in spec.signature.input_specs(spec.native)
    ]
    try:
        return run(items)
    # An engine raises what it likes.
    except Exception:
        return None


def _items(generator: np.random.Generator, port: TensorSpec, count: int) -> NDArray[Any]:
    shape, kind = (count, *port.shape), port.datatype.numpy
    if port.datatype is Datatype.BF16:
        kind = np.dtype(np.float32)
    return numbers(noise(generator, kind, shape), port.datatype)


def _fits(spec: ModelSpec, answers: Arrays, count: int) -> bool:
    wanted = [(count, *port.shape) for port in spec.signature.output_specs]
    return [answer.shape for answer in answers] == wanted


def _alike(one: NDArray[Any], rows: NDArray[Any]) -> bool:
    """Whether each row is the one, but for rounding."""
    wanted, found = one.astype(np.float64), rows.astype(np.float64)
    largest = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0))
    return wanted.shape[1:] == found.shape[1:] and np.allclose(
        found, wanted, rtol=0, atol=_SAME * largest, equal_nan=True
    )
