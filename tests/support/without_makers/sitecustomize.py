"""An interpreter on which what makes artefacts is not installed, as in an image.

Python runs this file by its name where its folder is on PYTHONPATH.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

_ABSENT = {"torch", "torchao", "nncf", "onnx", "onnxruntime"}


class _Refusing:
    """Refuses imports; asked before anybody else."""

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] in _ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _without(found: Callable[..., Any]) -> Callable[..., Any]:
    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name in _ABSENT else found(name, package)

    return find_spec


def _versions(known: Callable[[str], str]) -> Callable[[str], str]:
    def version(name: str) -> str:
        if name in _ABSENT:
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    return version


sys.meta_path.insert(0, _Refusing())
importlib.util.find_spec = _without(importlib.util.find_spec)
importlib.metadata.version = _versions(importlib.metadata.version)  # type: ignore[assignment]  # a stand-in
