"""h2corn, the HTTP/1.1 and HTTP/2 server: its settings, its certificates, its generations.

Its TLS files and its connections' age are fixed when it starts. So it is replaced instead: a new
one takes the listeners over, the old one asks its clients to go (``Connection: close``, GOAWAY),
finishes what they have asked, and ends. No connection is refused in between, because the listeners
stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
import socket
from collections.abc import Callable
from pathlib import Path

import h2corn
from h2corn._lib import prepare_tls
from h2corn._server import TlsMaterial

from corral.errors import ConfigError
from corral.frontend.farewell import App, Farewell
from corral.frontend.listeners import connections_taken, descriptors_left, duplicated
from corral.security.tls import Material
from corral.settings import LogFormat, Settings
from corral.system import procfs
from corral.system.watched_file import WatchedFile

logger = logging.getLogger(__name__)

#: a client that has not finished its TLS handshake by then is cut off
_HANDSHAKE_S = 20.0
#: a request's head, and silence within a body that is not gRPC's
_HEAD_S = 10.0
_SILENT_BODY_S = 60.0
#: answers that a client does not take
_STALLED_ANSWER_S = 60.0
#: Bodies are handed over in pieces of this size at most: larger ones cost fewer wake-ups.
_FRAME_BYTES = 2**18
#: what a client may send before anybody has taken it, on a connection
_WINDOW_BYTES = 4 * 2**20
#: Beyond --max-metadata-bytes a call is refused in gRPC's words; beyond this in HTTP's, or its
#: connection is closed.
_HEAD_BYTES = 2**17
_HEAD_ROOM = 4
#: HTTP/2 has 32 bits for it
_MOST_HEAD_BYTES = 2**32 - 1
_FIELDS = 4096
#: how often it is looked whether certificates have changed, or connections wait for a place
_LOOK_S = 0.2
#: how long HTTP/1.1's clients are told that their connections end, before they do: they have no
#: GOAWAY, and a request that crosses the end is lost
_FAREWELL_S = 1.0
#: how long requests may keep a connection that was asked to go, where others want its place
_STAY_S = 30.0
#: how long their end is waited for
_END_S = 5.0
#: for workers that come and go meanwhile
_SPARE_DESCRIPTORS = 48
#: until a server that could not be replaced is tried again
_AGAIN_S = 5.0
#: says that there is TLS; its files are read by ourselves
_NAME = Path("tls")
#: as good as for ever: who ends the process bounds it
_GRACE_S = 7 * 24 * 3600.0


def make_config(
    settings: Settings,
    *,
    listeners: int,
    connections: int,
    streams: int,
    tls: bool,
    client_certificates: bool,
) -> h2corn.Config:
    """h2corn's settings.

    Args:
        settings: the limits.
        listeners: how many there are.
        connections: how many there may be.
        streams: requests at once on a connection.
        tls: whether it is spoken.
        client_certificates: whether clients must show one.
    """
    head_bytes = max(_HEAD_BYTES, settings.limits.max_metadata_bytes * _HEAD_ROOM)
    head_bytes = min(head_bytes, _MOST_HEAD_BYTES)
    return h2corn.Config(
        # They are handed over: only their number counts.
        bind=tuple(f"fd://{number}" for number in range(listeners)),
        certfile=_NAME if tls else None,
        keyfile=_NAME if tls else None,
        ca_certs=_NAME if client_certificates else None,
        cert_reqs="required" if client_certificates else "none",
        lifespan="off",
        grpc=True,
        access_log=False,
        # What it has to say of a broken exchange goes to stderr in its own words.
        log_format="json" if settings.logging.format is LogFormat.JSON else "text",
        date_header=False,
        runtime_threads=1,
        max_concurrent_streams=streams,
        limit_connections=connections,
        limit_request_head_size=head_bytes,
        limit_request_line=head_bytes,
        limit_request_field_size=head_bytes,
        limit_request_fields=_FIELDS,
        h2_max_header_list_size=head_bytes,
        h2_max_header_block_size=head_bytes,
        h2_max_inbound_frame_size=_FRAME_BYTES,
        h2_initial_stream_window_size=_WINDOW_BYTES,
        h2_initial_connection_window_size=_WINDOW_BYTES,
        # Bodies have their limits where their kind is known.
        max_request_body_size=0,
        timeout_handshake=_HANDSHAKE_S,
        timeout_keep_alive=settings.limits.max_connection_idle_s,
        timeout_request_header=_HEAD_S,
        timeout_request_body_idle=_SILENT_BODY_S,
        timeout_graceful_shutdown=_GRACE_S,
        h2_timeout_response_stall=_STALLED_ANSWER_S,
        h2_timeout_write=0,
    )


async def serve_plainly(
    app: App, listener: socket.socket, config: h2corn.Config
) -> asyncio.Task[None]:
    """Serves an application on one listener without TLS; returns what ends with the server."""
    server = h2corn.Server(app, config)
    fds = duplicated([listener])
    task = asyncio.create_task(server._serve_worker_fds(fds, prepared_tls=prepare_tls(config)))
    await server.wait_started()
    return task


class HttpServer:
    """Serves an application on listeners for as long as the process lives.

    Args:
        app: the ASGI application.
        listeners: sockets that listen already; taken over.
        config: h2corn's settings.
        files: certificates, looked at all the time; None without TLS.
        max_age_s: connections are asked to go when they are at most so old; 0 for never.
        on_end: called when it has ended by itself, so that nobody is answered any more.
    """

    def __init__(
        self,
        app: App,
        listeners: list[socket.socket],
        config: h2corn.Config,
        *,
        files: WatchedFile[Material] | None,
        max_age_s: float,
        on_end: Callable[[], None],
    ) -> None:
        self._app = app
        self._listeners = listeners
        self._config = config
        self._files = files
        self._max_age_s = max_age_s
        self._on_end = on_end
        self._current: asyncio.Task[None] | None = None
        #: what is shown to clients, and what is of no use to h2corn
        self._material: Material | None = None
        self._refused: Material | None = None
        self._server: h2corn.Server | None = None
        self._farewell: Farewell | None = None
        #: oldest first
        self._serving: dict[asyncio.Task[None], Farewell] = {}
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Serves from now on.

        Raises:
            ConfigError: the certificates are of no use.
        """
        await self._replace()
        self._keepers.append(asyncio.create_task(self._refuse_surplus()))
        if self._files is not None or self._max_age_s:
            self._keepers.append(asyncio.create_task(self._keep_fresh()))

    async def _replace(self) -> None:
        """Puts a new server in the place of the one that serves."""
        await self._make_room()
        material = self._newest()
        shown = None
        if material is not None:
            shown = TlsMaterial(material.certificate, material.key, material.client_ca)
        try:
            prepared = prepare_tls(self._config, shown)
        # A key of a kind that it does not know is an OSError to it.
        except (ValueError, OSError) as error:
            self._refused = material
            raise ConfigError(f"--tls-cert, --tls-key, --tls-client-ca: {error}") from None
        farewell = Farewell(self._app)
        server = h2corn.Server(farewell, self._config)
        # Not ``serve``, which binds by itself and refuses TLS on unix sockets.
        task = asyncio.create_task(
            server._serve_worker_fds(duplicated(self._listeners), prepared_tls=prepared)
        )
        self._serving[task] = farewell
        task.add_done_callback(self._ended)
        await server.wait_started()
        # At the start the supervisor says it.
        is_another = self._current is not None and material is not self._material
        if is_another and material is not None and material.doubt:
            logger.warning("it is used nevertheless: %s", material.doubt)
        self._material = material
        self._current = task
        predecessor, self._server = self._server, server
        leaving, self._farewell = self._farewell, farewell
        if predecessor is None or leaving is None:
            return
        leaving.begin()
        try:
            await asyncio.sleep(_FAREWELL_S)
        finally:
            predecessor.shutdown()

    def _newest(self) -> Material | None:
        """The newest content that h2corn has not refused."""
        newest = self._files.current() if self._files else None
        return self._material if newest is self._refused else newest

    def say_farewell(self) -> None:
        """Tells HTTP/1.1's clients with each answer that their connections end."""
        assert self._farewell
        self._farewell.begin()

    async def leave(self, within_s: float) -> None:
        """Takes nobody any more, asks all clients to go (GOAWAY), and gives them that long."""
        assert self._server
        for keeper in self._keepers:
            keeper.cancel()
        self._current = None
        # Where another cell has the port, too, the kernel brings it those who come now.
        for listener in self._listeners:
            listener.close()
        self._server.shutdown()
        await asyncio.wait(self._serving, timeout=within_s)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._serving.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a server ended: %s", error)
        if task is self._current:
            self._on_end()

    async def _refuse_surplus(self) -> None:
        """Closes connections that wait for a place: h2corn leaves them with the kernel.

        Those that were asked to go, and that a request keeps, give way where places run out: each
        server counts its own alone.
        """
        poll = select.poll()
        for listener in self._listeners:
            poll.register(listener, select.POLLIN)
        waited: set[int] = set()
        while True:
            await asyncio.sleep(_LOOK_S)
            self._end_oldest()
            waiting = {fd for fd, _ in poll.poll(0)}
            # Those of one look may only be on their way.
            if waited & waiting and self._is_full():
                for listener in self._listeners:
                    if listener.fileno() in waiting:
                        _close_waiting(listener)
            waited = waiting

    def _end_oldest(self) -> None:
        oldest = next(iter(self._serving.values()), None)
        if oldest is None or oldest is self._farewell or oldest.since_s is None:
            return
        if asyncio.get_running_loop().time() < oldest.since_s + _STAY_S or not self._is_full():
            return
        # Descriptors are quick to count, and some are no connections.
        if connections_taken() >= self._config.limit_connections:
            _end(oldest)

    async def _make_room(self) -> None:
        """Ends servers before the one that serves, until another's connections have descriptors.

        Without any left, h2corn's server would end by itself, and with it all connections.
        """
        needed = self._config.limit_connections + _SPARE_DESCRIPTORS
        for task, oldest in list(self._serving.items()):
            left = descriptors_left()
            if oldest is self._farewell or left is None or left >= needed:
                return
            _end(oldest)
            await asyncio.wait([task], timeout=_END_S)

    def _is_full(self) -> bool:
        return procfs.open_descriptors() >= self._config.limit_connections

    async def _keep_fresh(self) -> None:
        """Replaces the server when its certificates have changed, or its connections are old."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while True:
            left_s = began_s + self._max_age_s - loop.time() if self._max_age_s else _LOOK_S
            await asyncio.sleep(max(0.0, min(left_s, _LOOK_S) if self._files else left_s))
            old = bool(self._max_age_s) and loop.time() >= began_s + self._max_age_s
            changed = self._newest() is not self._material
            if not old and not changed:
                continue
            try:
                await self._replace()
            except ConfigError as error:
                logger.warning("changed, but not used; the old content stays in force: %s", error)
            # Of descriptors or threads there may be none just now. Nobody would start this again.
            except Exception as error:
                logger.warning("connections are not renewed; tried again soon: %s", error)
                await asyncio.sleep(_AGAIN_S)
                continue
            began_s = loop.time()


def _end(oldest: Farewell) -> None:
    if ended := oldest.end():
        logger.warning(
            "%d requests ended whose connections had been asked to go: "
            "there is no place for more (--max-connections)",
            ended,
        )


def _close_waiting(listener: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
