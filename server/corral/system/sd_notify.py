"""Words to the service manager that started the server: systemd's notification protocol.

systemd names a datagram socket in ``$NOTIFY_SOCKET`` and reads lines such as ``READY=1`` from it;
podman and others speak the same. See sd_notify(3).
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping

logger = logging.getLogger(__name__)

#: how long a message may take that the service manager has no room for; it reads at once as a rule.
#: The next ones are not waited for until it takes one again.
_PATIENCE_S = 0.5
#: of a time in microseconds; systemd's end at 2**64
_MOST_DIGITS = 20


class ServiceSocket:
    """The service manager's socket; a service manager that is gone is nobody's trouble.

    Args:
        address: of the socket: a path, or ``@NAME`` for an abstract one.
    """

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(_PATIENCE_S)
        self._fails = False

    def send(self, **words: str | int) -> bool:
        """Sends ``NAME=VALUE`` lines in one message.

        Args:
            words: values without line breaks, by their names in sd_notify(3).

        Returns:
            False when the message did not arrive.
        """
        text = "\n".join(f"{name}={value}" for name, value in words.items())
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError as error:
            if not self._fails:
                # BlockingIOError and a timeout are one here: there is no room.
                reason = (
                    "it is full" if isinstance(error, TimeoutError) else error.strerror or error
                )
                logger.warning("the service manager's socket takes no word: %s", reason)
            self._fails = True
            self._socket.settimeout(0.0)
            return False
        self._fails = False
        self._socket.settimeout(_PATIENCE_S)
        return True


def service_socket(environ: Mapping[str, str]) -> ServiceSocket | None:
    """The socket that ``$NOTIFY_SOCKET`` names; None where nobody wants to hear anything."""
    address = environ.get("NOTIFY_SOCKET", "")
    # Others (vsock:CID:PORT, for virtual machines) are for processes that are systemd themselves.
    return ServiceSocket(address) if address[:1] in {"/", "@"} and len(address) > 1 else None


def watchdog_s(environ: Mapping[str, str], pid: int) -> float | None:
    """Seconds within which the service manager wants a sign of life; None where it wants none.

    Args:
        environ: the process's environment.
        pid: of the process: the wish may be meant for another one.
    """
    wanted, meant = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(pid))
    if not wanted.isdecimal() or len(wanted) > _MOST_DIGITS or meant != str(pid):
        return None
    if int(wanted) == 0:
        return None
    return int(wanted) / 1e6


def monotonic_us() -> int:
    """The clock that ``MONOTONIC_USEC`` is read from, microseconds."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
