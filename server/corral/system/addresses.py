"""Hosts and ports as people write them, and as sockets take them; IPv6 everywhere."""

from __future__ import annotations

import socket
from typing import Any


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
        OSError: it has none.
        UnicodeError: it cannot be a name.
    """
    found = socket.getaddrinfo(
        bare_host(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((family, tuple(where)) for family, _, _, _, where in found))
