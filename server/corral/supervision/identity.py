"""Whom workers run as, and whether that user can read what they need."""

from __future__ import annotations

import dataclasses
import os
import pwd
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from corral.errors import ConfigError

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


def check_readable(user: User, paths: Iterable[Path]) -> None:
    """Has a process of that user look, for only the kernel knows all that stands in the way.

    Args:
        user: as found.
        paths: the files and folders that it must be able to read; the interpreter and this
            package are looked at, too.

    Raises:
        ConfigError: the first that it cannot.
    """
    needed = [Path(__file__).parent, *paths]
    try:
        look = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _LOOK, *map(str, needed)],
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
        raise ConfigError(f"{_OPTION} {user.name}: cannot run {sys.executable}") from None
    if look.returncode != 0:
        words = look.stderr.strip().splitlines() or ["the interpreter does not start"]
        raise ConfigError(
            f"{_OPTION} {user.name}: cannot read {words[-1]}; make it and the folders above it "
            "readable, or name another user"
        )


def worker_user(name: str | None, artefact: str | None) -> User | None:
    """The user that ``--worker-user`` names, known to be able to read what workers read.

    Args:
        name: the setting.
        artefact: path of the model's IR, whose weights lie beside it; None: there is none.

    Raises:
        ConfigError: as find_user and check_readable do.
    """
    if name is None:
        return None
    user = find_user(name)
    files = [] if artefact is None else [Path(artefact), Path(artefact).with_suffix(".bin")]
    check_readable(user, files)
    return user
