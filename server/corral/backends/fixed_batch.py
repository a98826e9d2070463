"""A graph that answers one batch size alone: how one item at a time is made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

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
    if _fits(spec, together, batch) and all(_alike(rows[:1], rows) for rows in together):
        return batch
    if fits:
        return 1
    raise ModelError(
        f"--model {spec.file}: its batch is fixed at {batch}, and {batch} equal items do not get "
        f"{batch} equal answers: the batch is the first dimension of each input and output; export "
        "it with a dynamic one"
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
    if not sizes or _answers_fit(spec, run, 1):
        return AS_IT_IS
    tried = sizes[:_MOST_TRIED]
    return next((size for size in tried if _answers_fit(spec, run, size)), AS_IT_IS)


def _answers_fit(spec: ModelSpec, run: Run, count: int) -> bool:
    found = _answers(spec, run, count)
    return (
        found is not None
        and _fits(spec, found, count)
        and all(_alike(rows[:1], rows) for rows in found)
    )


def _answers(spec: ModelSpec, run: Run, count: int) -> Arrays | None:
    """What so many equal items get; None where the engine does not take them."""
    generator = np.random.default_rng(0)
    items = [_item(generator, port) for port in spec.signature.input_specs(spec.native)]
    try:
        return run([np.repeat(item, count, axis=0) for item in items])
    # An engine raises what it likes.
    except Exception:
        return None


def _item(generator: np.random.Generator, port: TensorSpec) -> NDArray[Any]:
    shape, kind = (1, *port.shape), port.datatype.numpy
    if port.datatype is Datatype.BF16:
        # numpy does not know it: these are the bits of 1.
        return np.full(shape, 0x3F80, kind)
    if kind.kind == "f":
        return generator.normal(size=shape).astype(kind)
    if port.datatype is Datatype.UINT8 and len(shape) == 4:
        return generator.integers(0, 256, shape).astype(kind)
    return np.ones(shape, kind)


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
