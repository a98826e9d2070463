"""Whom workers run as, and whether that user can read what they need."""

from __future__ import annotations

import dataclasses
import os
import pwd
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from corral.backends.code_folder import code_folder
from corral.backends.registry import engine
from corral.errors import ConfigError
from corral.models import registry
from corral.models.spec import ModelSpec
from corral.settings import Settings
from corral.system import folders

_OPTION = "--worker-user"

#: prints the first path that cannot be read, or that cannot be got into
_LOOK = """
import os, sys
for path in sys.argv[1:]:
    if not os.access(path, os.R_OK | (os.X_OK if os.path.isdir(path) else 0)):
        sys.exit(path)
"""


@dataclasses.dataclass(frozen=True)
class User:
    """An account of this machine."""

    name: str
    uid: int
    gid: int
    home: str


def find_user(name: str) -> User:
    """Looks the account up.

    Raises:
        ConfigError: there is none, it is root, or we are not root and cannot become it.
    """
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"{_OPTION} {name}: no such user") from None
    if found.pw_uid == 0:
        raise ConfigError(f"{_OPTION} {name}: that is root, who may do everything")
    if os.geteuid() != 0:
        raise ConfigError(f"{_OPTION} {name}: only root can start workers as another user")
    return User(found.pw_name, found.pw_uid, found.pw_gid, found.pw_dir)


def check_readable(user: User, paths: Iterable[Path], python: str = sys.executable) -> None:
    """Has a process of that user look, for only the kernel knows all that stands in the way.

    Args:
        user: as found.
        paths: the files and folders that it must be able to read; this package is looked at, too.
        python: the interpreter that it must be able to run.

    Raises:
        ConfigError: the first that it cannot.
    """
    needed = [Path(__file__).parents[1], *paths]
    try:
        look = subprocess.run(
            [python, "-I", "-S", "-c", _LOOK, *map(str, needed)],
            user=user.uid,
            group=user.gid,
            extra_groups=[],
            cwd="/",
            env={},
            capture_output=True,
            text=True,
            check=False,
        )
    except PermissionError:
        raise ConfigError(f"{_OPTION} {user.name}: cannot run {python}") from None
    if look.returncode != 0:
        words = look.stderr.strip().splitlines() or ["the interpreter does not start"]
        raise ConfigError(
            f"{_OPTION} {user.name}: cannot read {words[-1]}; make it and the folders above it "
            "readable, or name another user"
        )


def worker_user(settings: Settings, artefact: str | None, python: str) -> User | None:
    """The user that ``--worker-user`` names, known to be able to do what workers do.

    Args:
        settings: the user, the model, and what the engine keeps.
        artefact: path of the file that the engine loads; None: there is none.
        python: the interpreter that workers run on.

    Raises:
        ConfigError: as find_user and check_readable do, or it cannot be given its folder.
    """
    if settings.security.worker_user is None:
        return None
    user = find_user(settings.security.worker_user)
    spec = registry.get(settings.model.name, settings.model.shape)
    check_readable(user, _files(spec, artefact), python)
    if (folder := code_folder(settings)) is not None:
        try:
            _lend(user, folder)
        except ConfigError:
            if engine(settings.engine.backend).needs_code:
                raise
    return user


def _files(spec: ModelSpec, artefact: str | None) -> list[Path]:
    """What workers read: the artefact, the weights beside an IR, and the user's own model."""
    files = [] if artefact is None else [Path(artefact)]
    if spec.file is not None:
        notes = spec.file.with_suffix(".toml")
        files += [spec.file, *([notes] if notes.exists() else [])]
    return files + [file.with_suffix(".bin") for file in files if file.suffix == ".xml"]


def _lend(user: User, folder: Path) -> None:
    """Makes a folder that belongs to that user."""
    try:
        folders.make(folder)
        os.chown(folder, user.uid, user.gid, follow_symlinks=False)
        folder.chmod(0o700)
    except OSError as error:
        raise ConfigError(f"{_OPTION} {user.name}: {folder}: {error.strerror}") from None


def home(user: User | None) -> dict[str, str]:
    """What another user's environment says otherwise."""
    return {"HOME": user.home, "USER": user.name} if user else {}


def ids(user: User | None) -> tuple[int, int] | None:
    """What the launcher is told: uid and gid; None: the supervisor's."""
    return (user.uid, user.gid) if user else None
