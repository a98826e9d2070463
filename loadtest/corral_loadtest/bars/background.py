"""A load on a server from another process, while something else is measured."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

from corral_loadtest.bars.bench import Server, inferences

#: it has begun with so many answers, within that
_FIRST = 20
_PATIENCE_S = 60.0
_LOOK_S = 0.05


@contextlib.contextmanager
def loaded(server: Server, *options: str) -> Iterator[None]:
    """Requests with UINT8 tensors all the time, once the first are answered.

    Args:
        server: one of ours, with metrics.
        options: of ``corral-loadtest run``: how many, and how.

    Raises:
        RuntimeError: they did not begin.
    """
    command = [sys.executable, "-m", "corral_loadtest", "run", "--address", server.address]
    command += ["--input", "uint8", "--processes", "1", "--duration", "600"]
    command += ["--max-error-share", "1", *options]
    count = inferences(server)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as load:
        try:
            until_s = time.monotonic() + _PATIENCE_S
            while inferences(server) < count + _FIRST:
                if load.poll() is not None or time.monotonic() > until_s:
                    raise RuntimeError(f"no load began: {' '.join(options)}")
                time.sleep(_LOOK_S)
            yield
        finally:
            load.terminate()
