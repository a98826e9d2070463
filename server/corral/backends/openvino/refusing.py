"""Graphs whose run can fail by a request's values, and how such a run tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino

#: how operators begin whose kernels look at their indices, or at lengths
_LOOKING = (
    "Gather", "Scatter", "Embedding", "OneHot", "ReverseSequence",
    # Of regions, an item's number in the batch.
    "ROI", "PSROI", "DeformablePSROI", "ExperimentalDetectron",
    "CTC",
)  # fmt: skip
#: operators with graphs inside, whose operators may be any
_NESTING = frozenset({"If", "Loop", "TensorIterator"})


def may_refuse(model: openvino.Model) -> bool:
    """Whether values can make a run fail: an index, a length, or a shape that hangs on them.

    With one thread, OpenVINO's ``infer()`` (2026.4) returns without a word then, and the outputs
    are those of the run before. ``start_async()`` and ``wait()`` raise, for some 8 µs more a run on
    a Xeon with AMX.

    Args:
        model: with the shapes that it is compiled for.
    """
    return any(
        operator.get_type_name().startswith(_LOOKING)
        or operator.get_type_name() in _NESTING
        or any(output.partial_shape.is_dynamic for output in operator.outputs())
        for operator in model.get_ops()
    )
