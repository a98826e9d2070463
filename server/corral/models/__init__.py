"""The zoo: one file a model, each with a ``SPEC``. Adding a model is adding a file."""

from __future__ import annotations

import importlib
import pkgutil

from corral.errors import ConfigError
from corral.models.spec import ModelSpec

_HELPERS = {"spec", "weights", "pictures", "photos", "labels", "loading"}


def names() -> list[str]:
    """The models of the zoo, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _HELPERS)


def get(name: str) -> ModelSpec:
    """The specification of a model; imports no framework.

    Raises:
        ConfigError: there is no such model.
    """
    if name not in names():
        raise ConfigError(f"--model: no model {name!r}; there are: {', '.join(names())}")
    spec: ModelSpec = importlib.import_module(f"corral.models.{name}").SPEC
    return spec
