"""In what precision OpenVINO computes what a graph says nothing of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino

#: where an IR says that layers were left out of INT8
_LEFT_OUT = ["corral", "left_out"]


def mark_left_out(model: openvino.Model) -> None:
    """Writes into an IR that layers were left out of its INT8, for ``has_left_out``."""
    model.set_rt_info("true", _LEFT_OUT)


def has_left_out(model: openvino.Model) -> bool:
    """Whether layers of an INT8 model are in higher precision because INT8 cost too much."""
    return bool(model.has_rt_info(_LEFT_OUT))


def inference_precision(precision: str, *, left_out: bool, able: Sequence[str]) -> str:
    """What INFERENCE_PRECISION_HINT is to be: "f32" or "bf16".

    Left alone, the engine would choose BF16 wherever the CPU has it. Layers that were left out of
    INT8 do go to BF16 there: its noise is far below INT8's.

    Args:
        precision: "fp32", "bf16" or "int8".
        left_out: whether layers of an INT8 model were left out.
        able: the device's OPTIMIZATION_CAPABILITIES.
    """
    mixed = precision == "int8" and left_out and "BF16" in able
    return "bf16" if precision == "bf16" or mixed else "f32"
