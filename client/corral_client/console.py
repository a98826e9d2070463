"""What a console script settles before anything is imported that may be missing, or that reads its
environment when it is imported. It needs nothing but Python.
"""

from __future__ import annotations

# First of all: whatever is imported below takes its time.
from corral_client import early_end

early_end.end_quietly()

# ruff: noqa: E402
import contextlib
import errno
import importlib.util
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_INTERRUPTED = 130
#: what a write to standard output fails of
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
#: NumPy's BLAS reads these once, when it is imported, and starts so many threads
_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
_CLIENT_NEEDS = ("grpc", "google.protobuf", "numpy")


def client() -> None:
    """Entry of ``corral-client``."""
    settle()
    require("corral-client", "", _CLIENT_NEEDS)
    import_numpy_for_one_thread()
    from corral_client.cli import main

    with printing("corral-client"):
        obey(main)


@contextlib.contextmanager
def printing(command: str) -> Iterator[None]:
    """Ends the process with one line and exit code 1 where standard output takes no more.

    Whoever closed a pipe has seen enough: then it ends with 0 and no word.

    Args:
        command: for people.
    """
    failed: OSError | None = None
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError as error:
        # The flush would have succeeded if it had been another file's.
        failed = error
    if failed is None:
        return
    quiet = os.open(os.devnull, os.O_WRONLY)
    # The interpreter's own flush at the end must not fail, too.
    os.dup2(quiet, 1)
    if isinstance(failed, BrokenPipeError):
        sys.exit(0)
    where = failed.filename or ("standard output" if failed.errno in _FULL else "")
    said = f"{where}: {failed.strerror}" if where else str(failed)
    print(f"{command}: {said}", file=sys.stderr)
    sys.exit(1)


def obey(main: Callable[[], None]) -> None:
    """Runs a command that is loaded: from here on Ctrl-C is an exception, and its end 130."""
    try:
        early_end.as_usual()
        main()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def settle() -> None:
    """What every command settles first: what it prints to, and what ends it.

    What the locale's encoding cannot show is shown escaped. The kernel delivers to PID 1 of a
    container only what it has a handler for, and SIGTERM is what containers are stopped with.
    """
    for stream in (sys.stdout, sys.stderr):
        # None where the descriptor is closed.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def require(command: str, extra: str, modules: Sequence[str]) -> None:
    """Ends the process with one line and exit code 2 if modules cannot be imported.

    Args:
        command: for people.
        extra: of pyproject.toml, which brings the modules; "" for none.
        modules: by name; none is imported.
    """
    missing = [name for name in modules if not _is_there(name)]
    if missing:
        print(
            f"{command} needs Python packages that are not installed ({', '.join(missing)}): "
            f"{sys.executable} -m pip install {_source(extra)} brings them",
            file=sys.stderr,
        )
        sys.exit(2)


def _source(extra: str) -> str:
    """What pip gets: there is no corral on a package index, where that name is anybody's."""
    home = Path(__file__).resolve().parents[2]
    named = f"[{extra}]" if extra else ""
    if (home / "requirements.lock").is_file():
        return f"--constraint {home / 'requirements.lock'} '{home}{named}'"
    return f"'.{named}' in corral's checkout"


def import_numpy_for_one_thread() -> None:
    """Imports NumPy with a BLAS of one thread, since nothing is computed here.

    On a machine of many CPUs its threads alone can exceed a limit of processes. What the user has
    set stays, and children find the environment as it was.
    """
    ours = [name for name in _THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(ours, "1"))
    try:
        import numpy as np

        assert np
    finally:
        for name in ours:
            del os.environ[name]


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
