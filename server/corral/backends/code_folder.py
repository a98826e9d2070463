"""Where engines keep what they compile."""

from __future__ import annotations

from pathlib import Path

from corral.backends.registry import engine
from corral.settings import Settings


def code_folder(settings: Settings) -> Path | None:
    """A folder of the cache; another user's apart, for whoever can write code is believed.

    Args:
        settings: the engine, the cache folder and the workers' user.

    Returns:
        None where the engine keeps nothing.
    """
    kind, user = engine(settings.engine.backend).keeps_code, settings.security.worker_user
    if not kind:
        return None
    return Path(settings.model.cache_dir).absolute() / (f"{kind}-{user}" if user else kind)
