"""The kinds of model files, told by what they are called, or by what lies in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

#: suffixes of files, and what they are in the registry's rows
_KINDS = {
    ".onnx": ".onnx",
    ".xml": ".xml",
    ".pb": ".pb",
    ".tflite": ".tflite",
    ".pdmodel": ".pdmodel",
    ".pt2": ".pt2",
    ".pt": ".pt",
    ".pth": ".pt",
    ".ts": ".pt",
    ".torchscript": ".pt",
}
SAVED_MODEL = "saved_model"
#: for people
NAMES = (
    "ONNX (.onnx), OpenVINO IR (.xml), TensorFlow (a SavedModel folder, a frozen .pb, .tflite), "
    "Paddle (.pdmodel), PyTorch (.pt2, TorchScript .pt)"
)


def kind_of(path: Path) -> str:
    """The kind of a model file, as the registry's rows have it; "" for none that is known."""
    known = _KINDS.get(path.suffix, "")
    if not known and os.path.isfile(path / "saved_model.pb"):  # noqa: PTH113 - it never raises
        return SAVED_MODEL
    return known


def weight_files_of(path: Path) -> list[Path] | None:
    """What belongs to a file besides, as its kind has it; None: its header says so."""
    kind = kind_of(path)
    if kind == SAVED_MODEL:
        return below(path)
    if kind == ".xml":
        return [path.with_suffix(".bin")]
    if kind == ".pdmodel":
        return [file for file in (path.with_suffix(".pdiparams"),) if file.is_file()]
    return None if kind == ".onnx" else []


def below(folder: Path) -> list[Path]:
    """All files below a folder, sorted, those behind links to folders too.

    A link to a folder that it lies in is not followed.
    """
    return [path for path in entries(folder) if os.path.isfile(path)]  # noqa: PTH113 - it never raises


def entries(folder: Path) -> list[Path]:
    """All but folders below a folder, sorted: ``below``, and links to nothing, and pipes.

    Folders that nobody may read are among them.
    """
    return sorted(_entries(folder, frozenset()))


def _entries(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        inside = list(folder.iterdir())
    except PermissionError:
        yield folder
        return
    for path in inside:
        # A link to where nobody may look must not hide what lies beside it.
        if os.path.isdir(path):  # noqa: PTH112
            yield from _entries(path, above | {real})
        else:
            yield path
