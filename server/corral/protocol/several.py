"""The tensors of a request for a model of several inputs: each where it came to lie."""

from __future__ import annotations

from collections.abc import Sequence

from corral.protocol.scattered import Scattered
from corral.protocol.shared_memory import Tensor


class Several:
    """One tensor an input, in the order of the model's inputs.

    Args:
        parts: each of ``count`` items, one after another.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[memoryview | Tensor]) -> None:
        self.parts = parts


def copy_items(payload: memoryview | Scattered | Tensor, start: int, target: memoryview) -> bool:
    """Fills ``target`` with a tensor's bytes from ``start``.

    Returns:
        False when it is no longer all there in its client's shared memory.
    """
    if isinstance(payload, memoryview):
        target[:] = payload[start : start + len(target)]
        return True
    if isinstance(payload, Scattered):
        payload.read_into(target, start)
        return True
    return payload.read_into(target, start)
