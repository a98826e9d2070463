"""The one model below a folder, as KServe, Triton and OpenVINO Model Server lay them out.

``/mnt/models/model.onnx``, ``/mnt/models/1/model.xml`` or ``/mnt/models/resnet/3/model.onnx``: of
folders that are numbers, the versions of one model, the highest counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from corral.errors import ModelError
from corral.models.files import SAVED_MODEL, kind_of

_SUFFIXES = (".onnx", ".xml", ".tflite", ".pdmodel", ".pt2")
#: folders of models are small; a folder that is not one must not be walked for minutes
_MOST_FILES = 10_000
_MOST_DEPTH = 6
_SHOWN = 4


def find(folder: Path) -> Path:
    """The model file below a folder.

    Args:
        folder: exists, and is a folder.

    Returns:
        a model file, or the folder of a SavedModel, by the path below ``folder``.

    Raises:
        ModelError: there is none, or more than one; one line that names what there is.
    """
    found = sorted(_models(folder))
    if not found:
        raise ModelError(f"--model {folder}: no model.onnx, no model.xml and nothing like it in it")
    newest = {_without_version(path, folder): path for path in sorted(found, key=_version)}
    if len(newest) > 1:
        names = [str(path.relative_to(folder)) for path in newest.values()]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise ModelError(
            f"--model {folder}: has {len(names)} models ({', '.join(names[:_SHOWN])}{more}), "
            "not one; name one of them"
        )
    return next(iter(newest.values()))


def _models(folder: Path) -> Iterator[Path]:
    """All model files below; names that begin with a dot are somebody's own business.

    A ConfigMap's and KServe's links lead from plain names to folders of that kind.
    """
    looked_at = 0
    for place, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        here = Path(place)
        depth = len(here.relative_to(folder).parts)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and depth < _MOST_DEPTH)
        looked_at += len(files)
        if kind_of(here) == SAVED_MODEL:
            # TensorFlow's folder is the model, whatever else lies in it.
            folders[:] = []
            yield here
            continue
        if looked_at > _MOST_FILES:
            raise ModelError(f"--model {folder}: more than {_MOST_FILES:,} files are below it")
        for name in files:
            path = here / name
            if name.startswith(".") or path.suffix not in _SUFFIXES:
                continue
            # An XML without weights is another program's.
            if path.suffix != ".xml" or path.with_suffix(".bin").is_file():
                yield path


def _raise(error: OSError) -> None:
    raise ModelError(f"--model {error.filename}: {error.strerror}")


def _version(path: Path) -> int:
    """The number of the version's folder; -1 without one."""
    name = path.parent.name
    return int(name) if name.isdecimal() else -1


def _without_version(path: Path, folder: Path) -> tuple[Path, str]:
    """What the versions of one model have in common."""
    if path.parent != folder and _version(path) >= 0:
        return path.parent.parent, "versions"
    return path, ""
