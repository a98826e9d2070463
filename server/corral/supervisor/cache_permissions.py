"""Who else can change what workers load from the cache folder, some of which is code."""

from __future__ import annotations

import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from corral.backends.code_folder import code_folder
from corral.settings import Settings


def warnings(settings: Settings, artefact: str | None, uid: int) -> list[str]:
    """What is in the hands of others; at most one sentence, about the first such file or folder.

    Args:
        settings: the cache folder, the engine and the workers' user.
        artefact: path of the file that the engine loads; None: nothing is loaded.
        uid: of this process's user, who is trusted as root is.
    """
    if artefact is None:
        return []
    trusted = {0, uid}
    for path in _loaded(Path(settings.model.cache_dir), Path(artefact)):
        if fault := _fault(path, trusted):
            return [_sentence(path, fault)]
    user = settings.security.worker_user
    if user is not None:
        # They compile for themselves, in a folder of their own.
        trusted.add(pwd.getpwnam(user).pw_uid)
    if (folder := code_folder(settings)) is not None:
        for path in (folder, *sorted(folder.glob("*.*"))):
            if fault := _fault(path, trusted):
                return [_sentence(path, fault)]
    return []


def _loaded(cache_dir: Path, artefact: Path) -> Iterator[Path]:
    """The artefact's files and folder, and the folders above it as far as they are the cache's."""
    folder = artefact.parent
    yield from (cache_dir, folder.parent, folder)
    yield from sorted(folder.glob("*"))


def _fault(path: Path, trusted: set[int]) -> str:
    """What is wrong with a file or folder; empty when nothing is, or nothing is there."""
    try:
        found = path.stat()
    except OSError:
        return ""
    if found.st_uid not in trusted:
        return f"belongs to {_name(found.st_uid)}"
    return "can be written to by everybody" if found.st_mode & stat.S_IWOTH else ""


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _sentence(path: Path, fault: str) -> str:
    return (
        f"{path} {fault}: whoever can change what is cached runs code as the worker; let it belong "
        "to root or the user that starts corral, and chmod -R o-w takes it away from all others"
    )
