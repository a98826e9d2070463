"""Which kernels a compiled model runs, as the engine's runtime model has them."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino

#: where the arithmetic is
_HEAVY = {"Convolution", "FullyConnected", "MatMul", "GroupConvolution"}


def main_kernel(model: openvino.CompiledModel) -> str:
    """The kernel of most of its convolutions and products, e.g. "brgconv_avx512_amx_i8".

    Empty where it has neither, or the engine does not say.
    """
    found: collections.Counter[str] = collections.Counter()
    for node in model.get_runtime_model().get_ordered_ops():
        said = node.get_rt_info()
        if "layerType" in said and str(said["layerType"].value) in _HEAVY:
            found[str(said["primitiveType"].value)] += 1
    return found.most_common(1)[0][0] if found else ""
