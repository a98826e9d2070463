"""Kinds of operators, for engines that have other words for the same work. Pure."""

from __future__ import annotations

import re

from corral.profiling.report import OperatorRow

REORDER, EACH, OTHER = "reorders", "one value at a time", "other"
#: the first that the type has a word of, in the words of OpenVINO, ONNX, torch and oneDNN
_WORDS = (
    (EACH, re.compile(r"quantize(?!mat)", re.IGNORECASE)),
    ("convolutions", re.compile(r"conv(?!ert)", re.IGNORECASE)),
    ("pooling", re.compile(r"pool|mean|reduce", re.IGNORECASE)),
    ("attention", re.compile(r"attention", re.IGNORECASE)),
    (
        "matrix products",
        re.compile(
            r"mat_?mul|gemm|(^|_|add|b)mm($|_)|linear|fully_?conn|inner_prod", re.IGNORECASE
        ),
    ),
    ("normalization", re.compile(r"norm|mvn", re.IGNORECASE)),
    ("softmax", re.compile(r"softmax", re.IGNORECASE)),
    (
        EACH,
        re.compile(
            r"add|sub(?!graph)|mul|div|relu|gelu|silu|swish|sigmoid|tanh|clip|clamp|elt_?wise|binary|sum"
            r"|exp|erf|sqrt|pow|math",
            re.IGNORECASE,
        ),
    ),
)


def kind_of(row: OperatorRow) -> str:
    """What it computes, whichever engine's word its type is: "convolutions"."""
    if row.remark == "reorder":
        return REORDER
    return next((kind for kind, word in _WORDS if word.search(row.type)), OTHER)
