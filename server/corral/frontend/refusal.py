"""A frontend that can never start says why, and ends."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator

from corral.errors import ConfigError
from corral.ipc import channel
from corral.ipc.messages import CellBoot, FrontendFailed
from corral.system.limits import PASSING, start_refusal


@contextlib.contextmanager
def told(boot: CellBoot) -> Iterator[None]:
    """Ends the process once the supervisor has been told of what another start would meet, too."""
    try:
        yield
    except ConfigError as error:
        _end(boot, str(error))
    except OSError as error:
        if error.errno in PASSING:
            raise
        logging.getLogger(__name__).debug("why it cannot start", exc_info=True)
        _end(boot, f"frontend {boot.cell}: {start_refusal(error)}")


def _end(boot: CellBoot, message: str) -> None:
    with socket.socket(fileno=boot.control_fd) as supervisor, contextlib.suppress(channel.Closed):
        channel.send(supervisor, FrontendFailed(cell=boot.cell, message=message))
    logging.shutdown()
    os._exit(0)
