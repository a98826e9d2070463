"""Log lines on standard error: text for people, JSON for collectors."""

from __future__ import annotations

import logging
import sys

from corral.settings import LogFormat, LoggingSettings


def configure(chosen: LoggingSettings, name: str) -> None:
    """Sets up the root logger of this process.

    Args:
        chosen: level and format.
        name: who speaks, on every line: "supervisor", "frontend 0", "worker 3".
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(chosen.format, name))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = logging.getLevelNamesMapping()[chosen.level.value.upper()]
    # What libraries tell below a warning (asyncio, grpc) is for their authors.
    root.setLevel(max(level, logging.WARNING))
    for ours in ("corral", "__main__"):
        logging.getLogger(ours).setLevel(level)


def _formatter(log_format: LogFormat, name: str) -> logging.Formatter:
    if log_format is LogFormat.JSON:
        from pythonjsonlogger.json import JsonFormatter

        formatter: logging.Formatter = JsonFormatter(
            "%(asctime)s %(levelname)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level"},
            static_fields={"process": name},
        )
        return formatter
    return logging.Formatter(f"%(asctime)s %(levelname)-7s {name}: %(message)s")
