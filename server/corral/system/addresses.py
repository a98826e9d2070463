"""Hosts and ports as people write them, and as sockets take them; IPv6 everywhere."""

from __future__ import annotations

import errno
import ipaddress
import socket
import threading
from typing import Any

#: for the name service to answer; its own patience is half a minute
_PATIENCE_S = 3.0


def bare_host(host: str) -> str:
    """A host without the brackets that people put around an IPv6 address."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def format_address(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    host = bare_host(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def find_addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    """Every address to listen on for a host, each once, in the resolver's order.

    Args:
        host: an address, in brackets or not, or a name.
        port: goes into each.

    Raises:
        OSError: it has none, or the name service does not answer.
        UnicodeError: it cannot be a name.
    """
    name = _without_zone(bare_host(host))
    found = _resolve(name, port) if _is_address(name) else _resolve_soon(name, port)
    return list(dict.fromkeys((family, tuple(where)) for family, _, _, _, where in found))


def _without_zone(name: str) -> str:
    """``::1%lo`` is ``::1``: loopback has one interface, and the resolver knows no zones of it."""
    address = name.partition("%")[0]
    return address if _is_address(address) and ipaddress.ip_address(address).is_loopback else name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _resolve(name: str, port: int) -> list[Any]:
    return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)


def _resolve_soon(name: str, port: int) -> list[Any]:
    """The same within a few seconds; a thread is left behind where it takes longer."""
    outcome: list[list[Any] | Exception] = []

    def resolve() -> None:
        try:
            outcome.append(_resolve(name, port))
        except (OSError, UnicodeError) as error:
            outcome.append(error)

    thread = threading.Thread(target=resolve, daemon=True, name="name service")
    thread.start()
    thread.join(_PATIENCE_S)
    if not outcome:
        raise TimeoutError(
            errno.ETIMEDOUT, f"the name service does not answer within {_PATIENCE_S:g} s"
        )
    found = outcome[0]
    if isinstance(found, Exception):
        raise found
    return found
