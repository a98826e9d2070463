"""The admin socket: a person on this machine, with our user's rights, talks to the supervisor.

A unix socket of mode 0600 in a folder of mode 0700; whoever connects must run as the server's
user or as root. One line of JSON goes in, one comes out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from corral.console.sample import Sample
from corral.doctor.finding import Report
from corral.errors import ConfigError, StartError, os_reason
from corral.ipc.status import ServerStatus
from corral.settings import Mode
from corral.supervisor import admin_folder, ports
from corral.supervisor.seen_pids import as_seen_here
from corral.supervisor.tracing import CellTrace
from corral.system import folders

logger = logging.getLogger(__name__)

_MAX_LINE_BYTES = 4096
#: status of a large machine
_MAX_REPLY_BYTES = 64 * 2**20
#: where deploy/corral.service has it, whatever the port
UNITS_SOCKET = Path("/run/corral/admin.sock")
_CREDENTIALS = struct.Struct("3i")
#: for the question to come, once somebody has connected
_PATIENCE_S = 5.0
#: for a look at a server; where every CPU is taken several times, one that lives needs some seconds
LOOK_WITHIN_S = 15.0
_LOOKS = ("status", "look")
#: between two looks whether who says no more is still there
_LOOK_S = 0.2
#: who connects and says nothing holds one of these
_MAX_CONNECTIONS = 16


class Request(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What is asked of the supervisor."""

    command: Literal["reload", "mode", "status", "look", "trace"]
    mode: Mode | None = None
    #: how long requests are traced
    seconds: float = 1.0


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A server's numbers, and what the doctor found; None while it has not looked yet."""

    sample: Sample
    report: Report | None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Its answer: a sentence, and the exit code for whoever asked."""

    text: str
    exit_code: int = 0
    status: ServerStatus | None = None
    look: Look | None = None
    #: what the frontends wrote down, cell by cell
    trace: list[CellTrace] | None = None


Handler = Callable[[Request], Awaitable[Reply]]
_request_decoder = msgspec.json.Decoder(Request)
_reply_decoder = msgspec.json.Decoder(Reply)


def find_socket(environ: Mapping[str, str], port: int, named: Path | str | None = None) -> Path:
    """Where the server on this gRPC port has its socket, whatever environment it was started in.

    Args:
        environ: of whoever asks.
        port: the server's.
        named: by ``--admin-socket``; it is taken as it is.

    Returns:
        the named one, else the default place of whoever asks, unless a socket lies only in
        another one: root looks at every user's, and both at that of the systemd unit.
    """
    if named:
        return Path(folders.expand(str(named), environ))
    expected, *usual = admin_folder.default_paths(environ, port)
    users = "*" if os.geteuid() == 0 else str(os.geteuid())
    others = [
        *usual,
        *sorted(Path("/run/user").glob(f"{users}/corral/{port}.sock")),
        *sorted(Path("/tmp").glob(f"corral-{users}/{port}.sock")),  # noqa: S108
        *sorted(Path("/var/tmp").glob(f"corral-{users}/{port}.sock")),  # noqa: S108
        *_bound(f"/corral/{port}.sock"),
    ]
    found = next((path for path in [expected, *others] if _answers(path)), None)
    if found is None and _answers(UNITS_SOCKET) and _has_port(UNITS_SOCKET, port):
        found = UNITS_SOCKET
    return found or expected


def _bound(end: str) -> list[Path]:
    """Unix sockets of this machine whose path ends so: in a folder that our environment lacks."""
    try:
        # Number, six columns more, and the path, which may be of any bytes.
        lines = os.fsdecode(Path("/proc/net/unix").read_bytes()).splitlines()
    except OSError:
        return []
    paths = [fields[7] for line in lines if len(fields := line.split(maxsplit=7)) == 8]
    return sorted({Path(path) for path in paths if path.startswith("/") and path.endswith(end)})


def _answers(path: Path) -> bool:
    """Whether a server that we may trust listens there: of our own, or asked by root."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            # A stranger's server that accepts nobody holds nothing up.
            sock.settimeout(_PATIENCE_S)
            sock.connect(str(path))
            return os.geteuid() in {0, _peer_uid(sock)}
    except OSError:
        return False


def _has_port(path: Path, port: int) -> bool:
    """Whether the server there is the one on this gRPC port: its socket's name does not say so."""
    try:
        status = ask(path, Request(command="status"), _PATIENCE_S).status
    except (ConfigError, StartError, OSError):
        return False
    return status is not None and status.port == port


def bind(path: Path) -> socket.socket:
    """Binds the socket, in place of one that a dead server left behind.

    Raises:
        ConfigError: another server has it, or something else is there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if ports.is_left_over(path, "--admin-socket"):
            path.unlink(missing_ok=True)
        # Its mode counts from the first moment: nobody else connects before a chmod.
        mask = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(mask)
        # From here on whoever tries it finds somebody there, and does not take it for left over.
        sock.listen()
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        reason = error.strerror or str(error)
        raise ConfigError(f"--admin-socket {path}: {reason}") from None
    except ConfigError:
        sock.close()
        raise
    return sock


@contextlib.asynccontextmanager
async def listening(sock: socket.socket | None, handle: Handler) -> AsyncIterator[None]:
    """Answers on a bound socket while the context lasts, and removes it; None for no socket."""
    if sock is None:
        yield
        return
    path = sock.getsockname()
    ours = _inode(path)
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        connections.add(task)
        try:
            if len(connections) <= _MAX_CONNECTIONS:
                await _answer(reader, writer, handle)
        except OSError:
            logger.debug("whoever asked went away")
        except asyncio.CancelledError:
            # The server ends; asyncio would log a cancelled callback as an error.
            logger.debug("the server ends before it has answered")
        finally:
            connections.discard(task)
            writer.close()

    server = await asyncio.start_unix_server(serve, sock=sock, limit=_MAX_LINE_BYTES)
    try:
        yield
    finally:
        server.close()
        for task in connections:
            task.cancel()
        _remove(Path(path), ours)


def _inode(path: str) -> int:
    return Path(path).stat().st_ino


def _remove(path: Path, inode: int) -> None:
    """Removes the socket, unless another server has put its own there."""
    with contextlib.suppress(OSError):
        if path.stat().st_ino == inode:
            path.unlink()


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Handler
) -> None:
    uid = _peer_uid(writer.get_extra_info("socket"))
    if uid not in {0, os.geteuid()}:
        logger.warning("admin socket: user %d was turned away", uid)
        return
    try:
        line = await asyncio.wait_for(reader.readline(), _PATIENCE_S)
        request = _request_decoder.decode(line)
    except (TimeoutError, ValueError):
        reply = Reply(text="that is no request", exit_code=2)
    else:
        reply = await _while_there(handle(request), reader, writer.get_extra_info("socket"))
    writer.write(msgspec.json.encode(reply) + b"\n")
    await writer.drain()


async def _while_there(
    answer: Awaitable[Reply], reader: asyncio.StreamReader, sock: socket.socket
) -> Reply:
    """The answer, unless whoever asked leaves before: then it is given up.

    Raises:
        ConnectionResetError: they have left.
    """
    asked = asyncio.ensure_future(answer)
    left = asyncio.ensure_future(_leaves(reader, sock))
    try:
        await asyncio.wait((asked, left), return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            raise ConnectionResetError
        return asked.result()
    finally:
        left.cancel()
        if asked.cancel():
            await asyncio.wait((asked,))


async def _leaves(reader: asyncio.StreamReader, sock: socket.socket) -> None:
    """Returns once the other side is closed; who only says no more still waits for an answer."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(_MAX_LINE_BYTES):
            pass
        poll = select.poll()
        poll.register(sock.fileno(), 0)
        while not poll.poll(0):  # noqa: ASYNC110  (no event says it)
            await asyncio.sleep(_LOOK_S)


def _peer_uid(sock: socket.socket) -> int:
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(data)
    return int(uid)


def ask(path: Path, request: Request, timeout_s: float | None = None) -> Reply:
    """Asks a running server and waits for its answer.

    Args:
        path: of its admin socket.
        request: what is asked.
        timeout_s: how long each step of it may take; None: a look at the server as long as a
            server that lives may need for it, everything else as long as it takes.

    Returns:
        its answer; process ids in it are those of this PID namespace.

    Raises:
        ConfigError: there is no server, or it is not ours to ask.
        StartError: it went away meanwhile, or did not answer in time.
    """
    if timeout_s is None and request.command in _LOOKS:
        timeout_s = LOOK_WITHIN_S
    elif timeout_s is None:
        # A change may take minutes. A server that stands still would never begin it.
        ask(path, Request(command="status"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        try:
            sock.connect(str(path))
        except TimeoutError:
            raise StartError(_no_answer(timeout_s)) from None
        except OSError as error:
            reason = os_reason(error)
            raise ConfigError(
                f"no server answers at {path} ({reason}); "
                "name its --port, or its --admin-socket, and ask as the user that it runs as"
            ) from None
        with contextlib.suppress(OSError):
            sock.sendall(msgspec.json.encode(request) + b"\n")
        data = b""
        try:
            while len(data) < _MAX_REPLY_BYTES and (more := sock.recv(65536)):
                data += more
        except ConnectionResetError:
            pass
        except TimeoutError:
            raise StartError(_no_answer(timeout_s)) from None
    try:
        reply = _reply_decoder.decode(data)
    except msgspec.DecodeError:
        raise StartError("the server went away before it had answered") from None
    if reply.status is None:
        return reply
    return msgspec.structs.replace(reply, status=as_seen_here(reply.status))


def _no_answer(timeout_s: float | None) -> str:
    return f"the server does not answer within {timeout_s:g} s"
