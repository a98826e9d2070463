"""The ``corral`` command, and ``python -m corral``: what has to be settled before any import.

Imports the standard library alone until the command begins, so that a missing package is a line
and no traceback, a signal ends it from here on, and libraries find the environment set.
"""

from __future__ import annotations

# First of all: whatever is imported below takes its time.
from corral.launch import early_end

early_end.end_quietly()

# ruff: noqa: E402
import errno
import io
import os
import resource
import sys

from corral import extras
from corral.launch.descriptors import open_standard_descriptors
from corral.launch.pid1 import become_init
from corral.system import plain_text
from corral.system.optouts import OPT_OUTS


def main() -> None:
    """Entry of the command; ends the process with the exit code."""
    if sys.getfilesystemencoding() != "utf-8":
        # Names of files go to children in UTF-8, and back to the same bytes there.
        early_end.hold()
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606
    open_standard_descriptors()
    # What cannot be shown in the locale's encoding is shown in plain signs or escaped, and is no
    # reason to fail.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=plain_text.register())
    # A umask may keep others out of what is made here, and not ourselves.
    os.umask(os.umask(0o077) & 0o077)
    code = become_init()
    if code is not None:
        os._exit(code)
    os.environ.update(OPT_OUTS)
    # numpy would start a thread a CPU, for products of matrices that this process never computes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from corral.cli.main import main as command
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "corral":
            raise
        print(
            f"corral: the Python package {error.name!r} is not installed; "
            f"{extras.install('serve', python=sys.executable)} brings it",
            file=sys.stderr,
        )
        sys.exit(2)
    except (ImportError, MemoryError, OSError, SystemError) as error:
        # Whatever is refused memory while it is loaded says so in its own way.
        if not (_has_little_memory() or getattr(error, "errno", None) == errno.EMFILE):
            raise
        print(
            f"corral: cannot be loaded: {str(error) or type(error).__name__}; this process's "
            "limits of memory or descriptors may be too small (ulimit -v, -d, -n)",
            file=sys.stderr,
        )
        sys.exit(2)
    command()


def _has_little_memory() -> bool:
    limits = map(resource.getrlimit, (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    return any(most != resource.RLIM_INFINITY for most, _ in limits)


if __name__ == "__main__":
    main()
