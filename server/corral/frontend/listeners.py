"""The sockets that clients connect to: TCP on every address of a name, and unix sockets."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
from pathlib import Path

from corral.system import procfs
from corral.system.addresses import find_addresses

logger = logging.getLogger(__name__)

#: connections that may wait to be taken
BACKLOG = 4096
#: how soon a client that is gone without a word is noticed: idle, and with data under way
_KEEPALIVE_S = 120
_KEEPALIVE_EVERY_S = 10
_KEEPALIVE_PROBES = 2
_UNANSWERED_MS = 140_000
#: descriptors that a frontend needs for itself: workers that come and go, logs, the event loop's
_OWN_DESCRIPTORS = 96


def listen(host: str, port: int, *, shared: bool) -> list[socket.socket]:
    """Listens on every address of a host.

    Args:
        host: an address or a name; an IPv6 address may stand in brackets.
        port: TCP port.
        shared: whether several frontends have it, by SO_REUSEPORT.

    Raises:
        OSError: on none of them.
    """
    found = find_addresses(host, port)
    # "::" is every address of the machine; a name's IPv4 addresses get listeners of their own.
    alone = len({family for family, _ in found}) == 1
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    for family, address in found:
        try:
            sockets.append(_listen_tcp(family, address, shared=shared, dual=alone))
        except OSError as error:
            failure = failure or error
    if not sockets:
        raise failure or OSError(f"{host} has no address")
    return sockets


def _listen_tcp(family: int, address: object, *, shared: bool, dual: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            # One cell owns the port alone: a second server must not share it unnoticed.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
        # Connections inherit these.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            (socket.TCP_KEEPIDLE, _KEEPALIVE_S),
            (socket.TCP_KEEPINTVL, _KEEPALIVE_EVERY_S),
            (socket.TCP_KEEPCNT, _KEEPALIVE_PROBES),
            (socket.TCP_USER_TIMEOUT, _UNANSWERED_MS),
            (socket.TCP_NODELAY, 1),
        ):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        sock.bind(address)  # type: ignore[arg-type]  # as getaddrinfo gave it
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def listen_unix(path: str) -> socket.socket:
    """Listens on a unix socket, in place of one that a dead server left.

    Raises:
        OSError: it cannot.
    """
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind(path)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def connections_allowed(wanted: int, *, each: int = 1, others: int = 0) -> int:
    """How many connections there may be, so that descriptors are left for workers.

    Where clients could take the last one, no worker that died could be replaced.

    Args:
        wanted: how many are asked for.
        each: descriptors that a connection takes at most.
        others: descriptors that clients may have besides.
    """
    try:
        soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (OSError, ValueError):
        # Nobody may ask, or raise it.
        pass
    descriptors = _most_descriptors()
    # glibc's way to say that there is no limit, or that it cannot be read.
    if descriptors < 0:
        return wanted
    allowed = max(1, (descriptors - _OWN_DESCRIPTORS - others) // each)
    if allowed < wanted:
        logger.warning(
            "a process may have %d descriptors only: %d connections are taken instead of %d "
            "(ulimit -n raises it)",
            descriptors,
            allowed,
            wanted,
        )
    return min(wanted, allowed)


def descriptors_left() -> int | None:
    """How many more descriptors this process may have; None where there is no limit."""
    most = _most_descriptors()
    return None if most < 0 else most - procfs.open_descriptors()


def _most_descriptors() -> int:
    """How many this process may have; negative where there is no limit, or none can be read."""
    try:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    except OSError:
        return os.sysconf("SC_OPEN_MAX")


def connections_taken() -> int:
    """How many connections over TCP this process has."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            sock = socket.socket(fileno=int(entry.name))
        except OSError:
            # Another kind of file, or closed meanwhile.
            continue
        try:
            if sock.family in {socket.AF_INET, socket.AF_INET6}:
                count += not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            continue
        finally:
            sock.detach()
    return count


def duplicated(sockets: list[socket.socket]) -> list[int]:
    """Descriptors of the same listeners, for a server that closes what it is given."""
    return [os.dup(sock.fileno()) for sock in sockets]
