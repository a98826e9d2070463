"""Is a port ours to take? Asked before anything is started, and held from then on."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corral.errors import ConfigError, os_reason
from corral.settings import Settings
from corral.system.addresses import find_addresses

logger = logging.getLogger(__name__)

#: what clients of the protocol's HTTP form expect
USUAL_HTTP_PORT = 8000
#: how the kernel says that an address, or its whole family, is none of this machine's
_ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def claim(host: str, port: int, option: str) -> int:
    """Makes sure that nobody has the port; 0 picks a free one.

    Frontends share the port by SO_REUSEPORT, and the kernel would let a second server join them
    without a word. So this binds without it, which fails if anybody is there, and closes again.

    Args:
        host: an address or a name.
        port: TCP port, or 0.
        option: the setting to blame, e.g. "--port".

    Returns:
        The port.

    Raises:
        ConfigError: it is in use, not allowed, or the host is not one of ours.
    """
    absent: OSError | None = None
    had = False
    for family, address in addresses(host, port, option):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(_with_port(address, port))
                port = sock.getsockname()[1]
                had = True
        except OSError as error:
            # A name may have addresses that this machine has not: ::1 where IPv6 is off.
            if error.errno in _ABSENT:
                absent = error
                continue
            raise _refused(host, port, option, error) from None
    if not had:
        assert absent
        raise _refused(host, port, option, absent)
    return port


def claim_all(settings: Settings) -> dict[str, int]:
    """Claims the ports that the settings name; see ``claim``.

    Returns:
        each port by the name of its setting, those that were left open chosen.

    Raises:
        ConfigError: one cannot be had, or two are the same.
    """
    listen = settings.listen
    claimed: dict[str, int] = {}
    for name, host, port in (
        ("port", listen.host, listen.port),
        ("metrics_port", listen.metrics_host, listen.metrics_port),
        ("http_port", listen.host, _wanted_http_port(settings)),
    ):
        option = f"--{name.replace('_', '-')}"
        found = claim(host, port, option)
        for other, taken in claimed.items():
            if taken == found and port:
                raise ConfigError(f"{option} {found}: the same as --{other.replace('_', '-')}")
        found = _another(host, found, option, claimed)
        claimed[name] = found
    return claimed


def _another(host: str, port: int, option: str, claimed: dict[str, int]) -> int:
    """The port, or a free one where it is claimed already; all may be few to choose from."""
    with contextlib.ExitStack() as taken:
        while port in claimed.values():
            family, address = addresses(host, port, option)[0]
            sock = taken.enter_context(socket.socket(family, socket.SOCK_STREAM))
            try:
                # Without SO_REUSEADDR, so that the kernel does not give the same one again.
                sock.bind(_with_port(address, port))
            except OSError as error:
                raise _refused(host, port, option, error) from None
            port = claim(host, 0, option)
    return port


def _wanted_http_port(settings: Settings) -> int:
    """The HTTP port to claim: as set, else the usual one; a free one where that is taken."""
    listen = settings.listen
    if listen.http_port is not None:
        return listen.http_port
    if not listen.port or USUAL_HTTP_PORT in {listen.port, listen.metrics_port}:
        return 0
    try:
        return claim(listen.host, USUAL_HTTP_PORT, "--http-port")
    except ConfigError as error:
        logger.info("the HTTP port is a free one: %s", error)
        return 0


def _refused(host: str, port: int, option: str, error: OSError) -> ConfigError:
    return ConfigError(f"{option} {port}: cannot listen on {host}: {os_reason(error)}")


def _with_port(address: tuple[Any, ...], port: int) -> tuple[Any, ...]:
    """The same socket address with another port: IPv6's also has a flow and a scope."""
    return (address[0], port, *address[2:])


def claim_socket(name: str) -> None:
    """Makes sure that no server listens on a unix socket, and that nothing else is in its place.

    gRPC binds it in place of any socket that is there, a living server's too.

    Raises:
        ConfigError: it is in use, something else has that name, or nothing can be made there.
    """
    path = Path(name)
    check_socket_folder(path, "--unix-socket")
    try:
        if is_left_over(path, "--unix-socket"):
            path.unlink(missing_ok=True)
        # Only to bind it tells whether it can be bound.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.bind(str(path))
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"--unix-socket {path}: {error.strerror or error}") from None


def check_socket_folder(path: Path, option: str) -> None:
    """Makes sure that a unix socket can be made there, or lies there; nothing is made.

    Raises:
        ConfigError: there is no such folder, it is not ours to write, or something else has
            that name.
        OSError: it cannot be told.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"{option} {path}: {os.strerror(errno.EACCES)}")
    _is_socket(path, option)


def _is_socket(path: Path, option: str) -> bool:
    """Whether a unix socket lies there, whoever made it; False if nothing does.

    Raises:
        ConfigError: something else has that name.
        OSError: it cannot be told.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(f"{option} {path}: there is something else of that name")
    except FileNotFoundError:
        return False
    return True


def is_left_over(path: Path, option: str) -> bool:
    """Whether a unix socket lies there that a dead server left behind; False if nothing does.

    Raises:
        ConfigError: a server listens on it, or something else has that name.
        OSError: it cannot be told.
    """
    if not _is_socket(path, option):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A server that stands still, with all that it lets wait waiting, would hold us up.
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except BlockingIOError:
            pass
    raise ConfigError(f"{option} {path}: another server listens there")


@contextlib.contextmanager
def removed_at_end(name: str | None) -> Iterator[None]:
    """Removes a unix socket, if one is named, at the end: a frontend leaves it behind.

    What somebody has put in its place meanwhile stays, and so does another server's socket.
    """
    try:
        yield
    finally:
        if name is not None:
            with contextlib.suppress(ConfigError, OSError):
                if is_left_over(Path(name), "--unix-socket"):
                    Path(name).unlink()


@contextlib.contextmanager
def hold(host: str, port: int, *, shared: bool) -> Iterator[None]:
    """Keeps a claimed port from others for as long as the context lasts.

    The sockets are bound and do not listen: they get no connection, and our frontends can join
    them. The kernel gives the port to nobody who asks for a free one, and while it is shared,
    ``claim`` of a second server fails even before the frontends are there.

    Args:
        host: as claimed.
        port: as claimed.
        shared: several frontends will bind it, with SO_REUSEPORT; else one will, without.
    """
    option = socket.SO_REUSEPORT if shared else socket.SO_REUSEADDR
    with contextlib.ExitStack() as stack:
        for family, address in addresses(host, port, "--port"):
            # Left-over connections of an earlier server can refuse this; then we do without. So
            # we do where the machine lacks the family.
            with contextlib.suppress(OSError):
                sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                sock.setsockopt(socket.SOL_SOCKET, option, 1)
                sock.bind(address)
        yield


def addresses(
    host: str, port: int, option: str
) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    """Every address of a host, each once, as sockets take it.

    Raises:
        ConfigError: it has none.
    """
    try:
        return find_addresses(host, port)
    except (OSError, UnicodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "not a host name"
        raise ConfigError(f"{option.replace('port', 'host')} {host}: {reason}") from None
