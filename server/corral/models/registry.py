"""Finds a model: one of the zoo by its name, or a user's own file by its path."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path

from corral.errors import ConfigError
from corral.models import custom, zoo
from corral.models.ports import read_shapes
from corral.models.spec import ModelSpec


def names() -> list[str]:
    """The models of the zoo, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(zoo.__path__))


def get(name: str, shape: Sequence[str] = ()) -> ModelSpec:
    """The specification of a model of the zoo, or of a user's own file; imports no framework.

    Args:
        name: as on the command line.
        shape: the setting of that name: what a file leaves open.

    Raises:
        ConfigError: there is no such model.
        ModelError: the file cannot be served; one line that says why.
    """
    if name not in names():
        if custom.is_path(name):
            return custom.read(Path(name), read_shapes(shape))
        raise ConfigError(
            f"--model: no model {name!r}; there are: {', '.join(names())}; "
            "or the path of a model file"
        )
    if shape:
        raise ConfigError(f"--shape {shape[0]!r}: for a model file of your own, not for {name}")
    spec: ModelSpec = importlib.import_module(f"corral.models.zoo.{name}").SPEC
    return spec
