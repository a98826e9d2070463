"""What an engine's profile says of one operator, in one form for all engines."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import msgspec

#: instruction sets as kernels name them, the longest word first
_ISA = re.compile(
    r"(avx10_\d_\d+(?:_amx\w*?)?|avx512_core_amx\w*?|avx512_amx|amx|avx512_core_vnni|avx512_vnni|avx512_core_bf16|avx512_core"
    r"|avx512|avx2_vnni|avx2|avx|sse\d+|asimd|sve\w*?)(?=_|$|:)",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"(^|[_:])(ref|reference|simple)([_:]|$)", re.IGNORECASE)
_REORDER = re.compile(r"reorder|convert|transpose|permute|copy|^to$|contiguous", re.IGNORECASE)


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """One operator of the graph that the engine runs, for one inference."""

    name: str
    #: what it computes, in the engine's word: "Convolution"
    type: str
    #: the implementation, in the engine's word: "brgconv_avx512_amx_i8"; empty: it does not say
    kernel: str
    #: of the arithmetic: "fp32", "bf16", "int8"; empty where it is not known
    precision: str
    #: how often it ran
    calls: int
    #: mean of one inference, microseconds
    us: float
    #: operations of one inference, two for a product and a sum; 0 where they are not known
    flop: float = 0.0
    #: bytes read and written by one inference, if none of them were in a cache; 0: not known
    moved_bytes: float = 0.0

    @property
    def isa(self) -> str:
        """The instruction set in the kernel's name; empty where there is none."""
        found = _ISA.search(self.kernel)
        return found[1].lower() if found else ""

    @property
    def is_reference(self) -> bool:
        """Whether a kernel runs that nobody has made fast."""
        return _REFERENCE.search(self.kernel) is not None

    @property
    def is_reorder(self) -> bool:
        """Whether it computes nothing, and only moves what others need elsewhere."""
        return not self.flop and _REORDER.search(self.type) is not None


class EngineProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What a run with the engine's own profiler gave."""

    operators: list[Operator]
    #: inferences that it is the mean of
    inferences: int


def convolution_flop(output: Sequence[int], weights: Sequence[int], channel: int = 1) -> float:
    """Operations of a convolution, grouped or not.

    Args:
        output: shape of its result.
        weights: shape of its weights, output channels and all.
        channel: which dimension of the output the channels are.
    """
    if len(output) <= channel or not output[channel]:
        return 0.0
    return 2.0 * math.prod(output) * math.prod(weights) / output[channel]


def product_flop(output: Sequence[int], inner: int) -> float:
    """Operations of a product of matrices with so many elements in each sum."""
    return 2.0 * math.prod(output) * inner
