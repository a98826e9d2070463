"""Which addresses lie on this machine: connections to them go past every proxy. Pure."""

from __future__ import annotations

import ipaddress
import os
import urllib.parse

_SOCKETS = ("unix:", "unix-abstract:")
_NAMED = ("dns:", "ipv4:", "ipv6:", "passthrough:")


def on_this_machine(address: str) -> bool:
    """Whether an address is a unix socket's or loopback's.

    Args:
        address: as gRPC takes it: HOST:PORT, "[::1]:PORT", "unix:PATH", "ipv4:A:PORT,B:PORT".
    """
    if address.startswith(_SOCKETS):
        return True
    for scheme in _NAMED:
        if address.startswith(scheme):
            address = address.removeprefix(scheme)
            if address.startswith("//"):  # an authority: "dns://8.8.8.8/host"
                address = address[2:].partition("/")[2]
            address = address.removeprefix("/")
    return all(_is_loopback(_host(one)) for one in address.split(","))


def grpc_target(address: str) -> str:
    """An address as gRPC is given it: the path of a unix socket is a URI's there.

    Blanks, signs and bytes that are not UTF-8 are escaped; gRPC itself takes them back.
    """
    scheme, colon, path = address.partition(":")
    if scheme != "unix" or not colon:
        return address
    return f"unix:{urllib.parse.quote(os.fsencode(path), safe='/')}"


def proxy_options(address: str) -> list[tuple[str, str | int]]:
    """gRPC's channel options for an address: on this machine, no proxy of the environment.

    Elsewhere gRPC itself obeys ``grpc_proxy``, ``https_proxy``, ``http_proxy`` and ``no_proxy``.
    """
    return [("grpc.enable_http_proxy", 0)] if on_this_machine(address) else []


def _host(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    # More than one colon is an IPv6 address without a port.
    return address.partition(":")[0] if address.count(":") == 1 else address


def _is_loopback(host: str) -> bool:
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        found = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    # A connection to 0.0.0.0 or :: is one to loopback.
    return found.is_loopback or found.is_unspecified
