"""The settings of a server that a command starts to measure it: it listens by itself, to us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from corral.settings import Settings, options

#: groups of settings that what is measured depends on
MEASURED = {"model", "engine", "accuracy", "placement", "queue", "null", "limits", "lifecycle"}


def measured(settings: Settings, named: Mapping[str, Any]) -> dict[str, Any]:
    """Option names and values for the server; its addresses, keys, tokens and logs are left out.

    Args:
        settings: as a whole.
        named: option names and values that file or command line name.
    """
    groups = {option.name: option.group for option in options().values()}
    homes = {"cache-dir": settings.model.cache_dir, "offline": settings.model.offline}
    return {**homes, **{n: v for n, v in named.items() if groups[n] in MEASURED}}
