"""Which folder is the cache where nobody names one: the first that can be had."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from corral.backends.registry import engine
from corral.errors import ConfigError
from corral.settings import Settings
from corral.system import folders

logger = logging.getLogger(__name__)

#: in the cache, once a model was prepared
_PREPARED = "artefacts"
ADVICE = "CORRAL_CACHE or --cache-dir names another folder"


@dataclasses.dataclass(frozen=True)
class CacheFolder:
    """Where artefacts and weights are kept.

    Attributes:
        path: the folder; it may have to be made.
        warning: what is wrong with it, a sentence; empty when nothing is.
        usable: False where nothing can be written there.
    """

    path: str
    warning: str = ""
    usable: bool = True


def find_cache(environ: Mapping[str, str]) -> CacheFolder:
    """The cache folder that the environment gives.

    $CORRAL_CACHE is taken as it is. Else it is the first that can be had of $XDG_CACHE_HOME/corral,
    ~/.cache/corral, and a folder of our own among the temporary ones. A cache that cannot be
    written to is had as well if a model was prepared there.
    """
    named = environ.get("CORRAL_CACHE")
    if named:
        return CacheFolder(folders.expand(named, environ))
    refusals = []
    for folder in _usual(environ):
        refused = _refusal(folder)
        if not refused:
            return CacheFolder(str(folder))
        refusals.append(refused)
    why = "; ".join(refusals) or "there is no home"
    for base in folders.temporary(environ, lasting=True):
        own = base / f"corral-{os.geteuid()}"
        try:
            if not base.is_dir() or not _is_text(base):
                continue
            folders.make_private(own)
        except OSError:
            continue
        # It may be of an earlier day, when more could be written.
        if folders.refusal(own):
            continue
        warning = f"the cache is {own / 'cache'}, which may not last ({why}); {ADVICE}"
        return CacheFolder(str(own / "cache"), warning)
    first = next(_usual(environ), Path("/nowhere"))
    return CacheFolder(
        str(first) if _is_text(first) else "/nowhere",
        f"no cache to be had ({why}); {ADVICE}",
        False,
    )


def check(cache_dir: str) -> None:
    """Raises ConfigError where a cache folder has no whole name that can be told to others."""
    try:
        whole = Path(cache_dir).absolute()
    except OSError as error:
        raise ConfigError(
            f"--cache-dir {cache_dir}: relative to the working folder, which is not there: "
            f"{error.strerror}"
        ) from None
    if not _is_text(whole):
        raise ConfigError(f"--cache-dir {cache_dir}: {os.fsencode(whole)!r} is not UTF-8; {ADVICE}")


def check_named(environ: Mapping[str, str]) -> None:
    """Raises ConfigError where $CORRAL_CACHE cannot be told to others."""
    named = environ.get("CORRAL_CACHE", "")
    if not _is_text(Path(named)):
        raise ConfigError(f"CORRAL_CACHE: {os.fsencode(named)!r} is not UTF-8; {ADVICE}")


def require(settings: Settings, environ: Mapping[str, str]) -> None:
    """Says what is wrong with a cache folder that nobody has named.

    Raises:
        ConfigError: there is none, and the engine needs one.
    """
    if engine(settings.engine.backend).computes:
        check(settings.model.cache_dir)
    found = find_cache(environ)
    if not found.warning or settings.model.cache_dir != found.path:
        return
    if not found.usable and engine(settings.engine.backend).computes:
        raise ConfigError(found.warning)
    logger.warning("%s", found.warning)


def _usual(environ: Mapping[str, str]) -> Iterator[Path]:
    named = environ.get("XDG_CACHE_HOME", "")
    # The specification of these variables says that a relative path is to be ignored.
    if named.startswith("/"):
        yield Path(named) / "corral"
    home = folders.home(environ)
    if home is not None:
        yield home / ".cache" / "corral"
    account = folders.home({})
    if account is not None and account != home:
        yield account / ".cache" / "corral"


def _refusal(folder: Path) -> str:
    if not _is_text(folder):
        return f"{os.fsencode(folder)!r} is not UTF-8"
    refused = folders.refusal(folder)
    if refused and os.access(folder / _PREPARED, os.R_OK | os.X_OK, effective_ids=True):
        return ""
    return refused


def _is_text(path: Path) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in str(path))
