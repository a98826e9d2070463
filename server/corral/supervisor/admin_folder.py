"""Where a server has its admin socket unless told otherwise: a folder of its user's alone."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

from corral.errors import ConfigError
from corral.supervisor import ports
from corral.system import folders

#: of a socket that may still be about to listen
_YOUNG_S = 60.0


def default_paths(environ: Mapping[str, str], port: int) -> list[Path]:
    """Where the server on this gRPC port has its socket unless told otherwise, the best first."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    own = [Path(base) / f"corral-{os.geteuid()}" for base in ("/tmp", "/var/tmp")]  # noqa: S108
    # A relative one is to be ignored, says its specification.
    first = [Path(runtime) / "corral"] if runtime.startswith("/") else []
    return [folder / f"{port}.sock" for folder in (*first, *own)]


def make_private_folder(folder: Path) -> None:
    """Makes the folder, mode 0700, or makes sure that the one there is ours alone.

    Raises:
        ConfigError: it is not, or cannot be made.
    """
    try:
        folders.make_private(folder)
    except folders.NotOursAlone:
        raise ConfigError(
            f"the admin socket's folder {folder} is not ours alone; "
            "remove it, or name another place with --admin-socket PATH"
        ) from None
    except OSError as error:
        raise ConfigError(f"the admin socket's folder {folder}: {error.strerror}") from None


def sweep(folder: Path) -> None:
    """Removes the sockets of dead servers: one that was killed on a port of its own choice leaves
    a name that no other server comes back to.

    Young ones stay: between its bind and its listen a server looks dead.
    """
    for path in folder.glob("*.sock"):
        with contextlib.suppress(OSError, ConfigError):
            young = time.time() - path.lstat().st_ctime < _YOUNG_S
            if not young and ports.is_left_over(path, "--admin-socket"):
                path.unlink()
