"""In what precision OpenVINO computes what a graph says nothing of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino

#: where an IR says that what is not in INT8 may run in BF16
_IN_BF16 = ["corral", "left_out_in_bf16"]


def mark_bf16(model: openvino.Model) -> None:
    """Writes into an IR that layers left out of its INT8 run in BF16, for ``is_marked_bf16``."""
    model.set_rt_info("true", _IN_BF16)


def is_marked_bf16(model: openvino.Model) -> bool:
    """Whether layers that were left out of an INT8 model run in BF16 where the CPU has it."""
    return bool(model.has_rt_info(_IN_BF16))


def inference_precision(precision: str, *, marked_bf16: bool, able: Sequence[str]) -> str:
    """What INFERENCE_PRECISION_HINT is to be: "f32" or "bf16".

    Left alone, the engine would choose BF16 wherever the CPU has it.

    Args:
        precision: "fp32", "bf16" or "int8".
        marked_bf16: whether an INT8 model's other layers were judged in BF16.
        able: the device's OPTIMIZATION_CAPABILITIES.
    """
    mixed = precision == "int8" and marked_bf16 and "BF16" in able
    return "bf16" if precision == "bf16" or mixed else "f32"
