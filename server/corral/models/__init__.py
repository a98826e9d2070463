"""The zoo: one file a model, each with a ``SPEC``. Adding a model is adding a file."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from corral.errors import ConfigError
from corral.models import own
from corral.models.spec import ModelSpec

_HELPERS = {"spec", "weights", "pictures", "photos", "labels", "loading", "onnx_header", "own"}


def names() -> list[str]:
    """The models of the zoo, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _HELPERS)


def get(name: str) -> ModelSpec:
    """The specification of a model of the zoo, or of a user's own file; imports no framework.

    Raises:
        ConfigError: there is no such model.
        ModelError: the file cannot be served; one line that says why.
    """
    if name not in names():
        if own.is_path(name):
            return own.read(Path(name))
        raise ConfigError(
            f"--model: no model {name!r}; there are: {', '.join(names())}; "
            "or a path that ends in .onnx or .xml"
        )
    spec: ModelSpec = importlib.import_module(f"corral.models.{name}").SPEC
    return spec
