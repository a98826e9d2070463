"""The command of a server on the null backend, on free ports."""

from __future__ import annotations

import sys


def null_server_command(*args: str) -> list[str]:
    """``corral serve --backend null ARGS`` for ``running_server.running``."""
    ports = ["--port", "0", "--metrics-port", "0"]
    return [sys.executable, "-m", "corral", "serve", "--backend", "null", *ports, *args]
