"""What is an address of a server, and which lie on this machine: those go past every proxy."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import os
import re
import socket
import threading
import urllib.parse

_SOCKETS = ("unix:", "unix-abstract:")
_NAMED = ("dns:", "ipv4:", "ipv6:", "passthrough:")
_OWN = ("vsock:", "xds:", "google-c2p:")
#: schemes of URLs, and whether they are encrypted
_URLS = {"http://": False, "grpc://": False, "https://": True, "grpcs://": True}
_LOCALHOSTS = ("localhost", "ip6-localhost", "ip6-loopback", "localhost6")
_MOST_PORT = 65_535
_PORT_DIGITS = re.compile("[0-9]{1,20}")
#: letters that a message repeats
_SHOWN = 100
_PORT, _TLS_PORT = 8001, 443
#: for the name's server to answer; a name that takes longer is none of this machine's
_RESOLVED_WITHIN_S = 1.0
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")


@dataclasses.dataclass(frozen=True)
class Address:
    """A server's address.

    Attributes:
        target: as gRPC takes it.
        tls: whether it says by itself that connections are encrypted.
    """

    target: str
    tls: bool = False


def parse_address(text: str, *, tls: bool = False) -> Address:
    """The address that a person means.

    Args:
        text: HOST:PORT, HOST, "unix:PATH", http:// or grpc:// (https:// or grpcs://: encrypted)
            before HOST:PORT, or an address of gRPC's own schemes.
        tls: whether connections are encrypted: then 443 is the port of a host without one, else
            8001.

    Raises:
        ValueError: it is none; the text says what is wrong, for a person.
    """
    if text.startswith((*_SOCKETS, *_NAMED, *_OWN)):
        if text in _SOCKETS:
            raise ValueError(f"{text!r} has no path")
        return Address(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{text!r} is not UTF-8") from None
    host, encrypted = text, False
    for scheme, is_tls in _URLS.items():
        if text.startswith(scheme):
            host, encrypted = text.removeprefix(scheme).removesuffix("/"), is_tls
    if "://" in host or not host or any(c in "/?#@,\\" or c.isspace() for c in host):
        raise ValueError(f"{text!r} is no HOST:PORT and no unix:PATH")
    name, colon, port = _split(host)
    if not name or (not colon and name.isdecimal()):
        raise ValueError(f"{text!r} has no host: HOST:PORT is needed")
    host = _dotted(name) or host.removesuffix(colon + port)
    if not colon:
        return Address(f"{host}:{_TLS_PORT if tls or encrypted else _PORT}", encrypted)
    # Python refuses to read a number of thousands of digits.
    if not (_PORT_DIGITS.fullmatch(port) and 0 < int(port) <= _MOST_PORT):
        raise ValueError(
            f"{_shown(text)}: a port from 1 to {_MOST_PORT} is needed, not {_shown(port)}"
        )
    return Address(f"{host}:{port}", encrypted)


def _dotted(name: str) -> str:
    """An IPv4 address that is written short, "127.1", as gRPC knows it; "" for anything else."""
    if not name.replace(".", "").isalnum() or not name[:1].isdigit():
        return ""
    try:
        return socket.inet_ntoa(socket.inet_aton(name))
    except (OSError, UnicodeError):
        return ""


def _split(host: str) -> tuple[str, str, str]:
    """Host, colon and port; the last two are empty where there is none."""
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        try:
            ipaddress.IPv6Address(name)
        except ValueError:
            raise ValueError(f"{host!r}: no IPv6 address is in the brackets") from None
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{host!r} is no [HOST]:PORT")
        return name, rest[:1], rest[1:]
    if host.count(":") > 1:
        raise ValueError(f"{host!r}: an IPv6 address stands in brackets, as in [::1]:{_PORT}")
    return host.partition(":")


def on_this_machine(address: str) -> bool:
    """Whether an address is a unix socket's or loopback's.

    Args:
        address: as gRPC takes it: HOST:PORT, "[::1]:PORT", "unix:PATH", "ipv4:A:PORT,B:PORT".
    """
    return address.startswith(_SOCKETS) or all(map(_is_loopback, _hosts(address)))


def _hosts(address: str) -> list[str]:
    for scheme in _NAMED:
        if address.startswith(scheme):
            address = address.removeprefix(scheme)
            if address.startswith("//"):  # an authority: "dns://8.8.8.8/host"
                address = address[2:].partition("/")[2]
            address = address.removeprefix("/")
    return [_host(one) for one in address.split(",")]


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
    here = on_this_machine(address) or (
        any(os.environ.get(name) for name in _PROXIES) and all(map(resolves_here, _hosts(address)))
    )
    return [("grpc.enable_http_proxy", 0)] if here else []


def resolves_here(host: str) -> bool:
    """Whether every address of a host is loopback's or this machine's own.

    It asks the system's resolver, for a second at most: only worth it where there is a proxy.
    """
    found: list[str] = []

    def resolve() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            found.extend(str(entry[4][0]) for entry in socket.getaddrinfo(host, None))

    # The resolver takes no timeout.
    asking = threading.Thread(target=resolve, daemon=True)
    asking.start()
    asking.join(_RESOLVED_WITHIN_S)
    addresses = set(found)
    return bool(addresses) and all(_is_loopback(one) or _is_own(one) for one in addresses)


def _is_own(address: str) -> bool:
    """Whether this machine has the address: nobody can be bound to another's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _host(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    # More than one colon is an IPv6 address without a port.
    return address.partition(":")[0] if address.count(":") == 1 else address


def _is_loopback(host: str) -> bool:
    name = host.lower().rstrip(".")
    # ip6-…: as Debian's /etc/hosts has them
    if name in _LOCALHOSTS or name.endswith(".localhost"):
        return True
    try:
        found = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    # A connection to 0.0.0.0 or :: is one to loopback.
    return found.is_loopback or found.is_unspecified


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
