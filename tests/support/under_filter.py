"""Runs a command under a filter of system calls, as systemd's SystemCallFilter= makes it.

``python -m support.under_filter NAMES_FILE COMMAND...``: calls that the file names, one a line, go
through; all others fail with EPERM.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

import pyseccomp


def main() -> None:
    """Installs the filter and becomes the command."""
    allowed = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    for name in Path(sys.argv[1]).read_text().split():
        # systemd's groups name calls of other architectures, too.
        with contextlib.suppress(OSError, ValueError):
            allowed.add_rule(pyseccomp.ALLOW, name)
    allowed.load()
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
