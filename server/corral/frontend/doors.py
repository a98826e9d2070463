"""Where clients come in: the sockets that the settings ask for, open."""

from __future__ import annotations

import socket

from corral.frontend.listeners import listen, listen_unix
from corral.frontend.unix_relay import UnixRelay
from corral.settings import Settings


def open_doors(
    settings: Settings, *, shared: bool, connections: int
) -> tuple[list[socket.socket], UnixRelay | None]:
    """Listens on the ports and the unix socket.

    Args:
        settings: which.
        shared: whether several frontends have the ports.
        connections: how many the unix socket passes on at once, where it does.

    Returns:
        what the HTTP server listens on, and what passes the unix socket's connections on to it.

    Raises:
        OSError: on one of them it cannot.
    """
    sockets = listen(settings.listen.host, settings.listen.port, shared=shared)
    if settings.listen.http_port is not None:
        sockets += listen(settings.listen.host, settings.listen.http_port, shared=shared)
    if not settings.listen.unix_socket:
        return sockets, None
    local = listen_unix(settings.listen.unix_socket)
    if settings.security.tls_cert:
        return sockets, UnixRelay(local, sockets[0], connections=connections)
    return [*sockets, local], None
