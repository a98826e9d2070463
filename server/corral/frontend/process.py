"""The frontend's process of one cell: ``python -m corral.frontend.process CELL BOOT_FD``.

It speaks the Open Inference Protocol over gRPC and HTTP, takes workers from the supervisor, and
owns every request until it is answered.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import os
import sys

import msgspec
import uvloop

from corral import logs
from corral.batching.policy import Policy, queue_policy
from corral.dataplane.dispatcher import Dispatcher
from corral.dataplane.inference import Inference
from corral.dataplane.recorder import Recorder
from corral.frontend import keep_warm, methods, rest
from corral.frontend.admission import Admission
from corral.frontend.application import Application
from corral.frontend.auth import Auth
from corral.frontend.console_feed import ConsoleFeed
from corral.frontend.doors import open_doors
from corral.frontend.health import Health
from corral.frontend.http_server import HttpServer, make_config
from corral.frontend.limits import (
    ARRIVING_BYTES,
    max_requests,
    max_streams,
    message_limit,
    most_connections,
)
from corral.frontend.observer import make_observer
from corral.frontend.outgoing import Outgoing
from corral.frontend.pages import Pages, describe
from corral.frontend.refusal import told
from corral.frontend.service import Service
from corral.frontend.shallow_sleep import ShallowSleep
from corral.frontend.supervisor_link import SupervisorLink
from corral.ipc.messages import (
    AskView,
    AttachWorker,
    CellBoot,
    Drained,
    FrontendFailed,
    FrontendUp,
    ModelFindings,
    Opened,
    Reconfigure,
    Reconfigured,
    StartTrace,
    WorkerGone,
    WorkerVerified,
)
from corral.metrics import counters
from corral.protocol.contents import Limits
from corral.protocol.request import RequestReader
from corral.protocol.shared_memory import ClientMemory
from corral.security import credentials, sandbox, tls
from corral.system import procfs
from corral.system.limits import check_descriptors
from corral.system.malloc_trim import MallocTrimmer

logger = logging.getLogger(__name__)

_SLOW_S = 5.0
#: of a loop: epoll's, an event, and a pair for signals
_LOOP_DESCRIPTORS = 4
#: how often a drain looks whether all is answered, and how long the last answers may be under way
_DRAIN_LOOK_S = 0.01
_LAST_ANSWERS_S = 0.1
#: what TCP sends at once on any connection
_FIRST_WINDOW_BYTES = 14_600


class Frontend:
    """One cell's front: what is made once, and what happens to it.

    Raises:
        ConfigError: credentials or certificates are of no use.
    """

    def __init__(self, boot: CellBoot) -> None:
        settings = boot.settings
        self._boot = boot
        self._served = boot.served
        #: what the latest worker found out
        self._findings = ModelFindings()
        self._loop = asyncio.get_running_loop()
        layout = counters.make_layout(boot.page_slots)
        counted = counters.Pages(boot.counters_fd, layout, boot.cells)
        self._recorder = Recorder(counted, boot.cell)
        self._observer = make_observer(boot, self._recorder)
        self._feed = ConsoleFeed(
            counted, boot.served, lambda known: self._supervisor.say(AskView(known=known))
        )
        self._supervisor = SupervisorLink(
            boot.control_fd,
            boot.cell,
            on_open=self._open,
            on_worker=self._have_worker,
            on_settings=self._reconfigure,
            on_drain=self._begin_drain,
            on_trace=self._trace,
            on_view=self._feed.heard,
        )
        memory = ClientMemory() if settings.listen.client_shared_memory else None
        self._pages = Pages(
            describe(self._served, boot.model, settings, boot.workers, self._findings),
            self._served.views,
            ready=lambda: self._service.ready,
            counts=counted.snapshot,
            memory=memory,
        )
        self._sleep = ShallowSleep(settings)
        policy = queue_policy(settings, boot.slots, boot.region_batch)
        self._dispatcher = self._make_dispatcher(policy)
        reader = self._make_reader(memory)
        self._inference = Inference(
            self._served,
            reader,
            self._dispatcher,
            self._recorder,
            max_image_pixels=settings.queue.max_image_pixels,
            decode_threads=len(os.sched_getaffinity(0)),
            queue_timeout_s=settings.queue.queue_timeout_ms / 1000,
        )
        self._service = self._make_service(reader, policy.max_queue)
        self._streams = max_streams(settings.limits, policy.max_queue)
        self._health = Health(["", methods.SERVICE, *self._pages.names()], self._service.messages)
        self._app = Application(
            self._service,
            self._health,
            rest.make(self._service, self._feed, settings),
            max_fields_bytes=settings.limits.max_metadata_bytes,
        )
        self._keep_warm = keep_warm.make(boot, self._service, self._dispatcher, reader, self._pages)
        self._server: HttpServer | None = None

    def _make_dispatcher(self, policy: Policy) -> Dispatcher:
        return Dispatcher(
            self._served.signature,
            policy,
            self._recorder,
            on_verified=self._on_verified,
            hang_floor_s=self._boot.settings.lifecycle.hang_floor_s,
            on_gone=lambda worker, pid: self._on_gone(worker, pid, hung=False),
            on_hung=lambda worker, pid: self._on_gone(worker, pid, hung=True),
        )

    def _make_reader(self, memory: ClientMemory | None) -> RequestReader:
        limits = Limits(
            max_items=self._boot.settings.queue.max_items,
            max_image_bytes=self._boot.settings.queue.max_image_bytes,
            classes=self._served.classes,
        )
        return RequestReader(self._served.signature, limits, self._pages.resolve, memory)

    def _make_service(self, reader: RequestReader, max_queue: int) -> Service:
        settings, signature = self._boot.settings, self._served.signature
        most = max_requests(settings.limits, max_queue)
        access = credentials.make_access(
            settings.security.auth_token_file,
            settings.security.allow_client,
            client_ca=settings.security.tls_client_ca,
        )
        return Service(
            self._inference,
            reader,
            self._pages,
            auth=Auth(access) if access else None,
            messages=Admission(most, ARRIVING_BYTES, slow_s=_SLOW_S),
            outgoing=Outgoing(),
            observer=self._observer,
            max_body_bytes=message_limit(settings, signature),
            max_requests=most,
        )

    # --- what the supervisor says, and is told ---

    def _open(self) -> None:
        self._inference.open = True
        self._show_state()
        self._supervisor.say(Opened())

    def _have_worker(self, hello: AttachWorker) -> None:
        self._pages.batch_sizes = hello.sizes
        self._findings = hello.findings
        self._pages.model = dataclasses.replace(self._pages.model, findings=hello.findings)

    def _reconfigure(self, new: Reconfigure) -> None:
        settings = new.settings
        policy = queue_policy(settings, new.slots, new.region_batch)
        self._service.set_max_requests(max_requests(settings.limits, policy.max_queue))
        logs.configure(settings.logging, f"frontend {self._boot.cell}")
        self._pages.model = describe(self._served, new.model, settings, new.workers, self._findings)
        self._inference.max_image_pixels = settings.queue.max_image_pixels
        self._inference.queue_timeout_s = settings.queue.queue_timeout_ms / 1000
        self._dispatcher.reconfigure(policy, settings.lifecycle.hang_floor_s)
        self._keep_warm.follow(settings)
        self._observer.set_rate(settings.telemetry.rate)
        self._sleep.follow(settings)
        self._supervisor.say(Reconfigured(number=new.number))

    def _on_verified(self, worker: int) -> None:
        self._supervisor.say(WorkerVerified(worker=worker))
        self._show_state()

    def _on_gone(self, worker: int, pid: int, *, hung: bool) -> None:
        self._supervisor.say(WorkerGone(worker=worker, pid=pid, hung=hung))
        self._show_state()

    def _show_state(self) -> None:
        self._health.serving(self._service.ready)
        self._recorder.serving(serves=self._service.ready)

    def _trace(self, start: StartTrace | None, fds: list[int]) -> None:
        """Begins to note requests' phases, or ends it and says how many there are."""
        if (traced := self._observer.trace(start, fds)) is not None:
            self._supervisor.say(traced)

    def _begin_drain(self, delay_s: float) -> None:
        self._draining = self._loop.create_task(self._drain(delay_s))

    async def _drain(self, delay_s: float) -> None:
        """Not ready, then nothing new, then everything accepted is answered.

        For ``delay_s`` the first holds and not yet the second.

        The server is stopped last: it would close connections whose clients have not read yet. Who
        comes before is told UNAVAILABLE. A client that does not read its answer is waited for,
        until the supervisor's grace time is over.
        """
        self._keep_warm.end()
        self._service.leaving = True
        self._recorder.serving(serves=False)
        self._health.shutdown()
        await asyncio.sleep(delay_s)
        self._service.draining = True
        self._inference.open = False
        if self._server is not None:
            self._server.say_farewell()
        self._service.messages.close()
        while self._service.accepted:  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_LOOK_S)
        # What is with the kernel is lost where this process ends and the client sends another word,
        # but for what is on its way already.
        await asyncio.sleep(_LAST_ANSWERS_S)
        settings = self._boot.settings
        ports = [port for port in (settings.listen.port, settings.listen.http_port) if port]
        while max(map(procfs.unacknowledged_bytes, ports)) > _FIRST_WINDOW_BYTES:  # noqa: ASYNC110
            await asyncio.sleep(_LAST_ANSWERS_S)
        # A request that crosses this is sent again by gRPC's clients, to whoever serves then.
        if self._server is not None:
            await self._server.leave(_LAST_ANSWERS_S)
        self._supervisor.say(Drained(cell=self._boot.cell))

    # --- life ---

    async def run(self) -> None:
        """Serves until the supervisor closes the control socket."""
        settings = self._boot.settings
        files = tls.watch(
            settings.security.tls_cert, settings.security.tls_key, settings.security.tls_client_ca
        )
        connections = most_connections(settings)
        try:
            shared = self._boot.cells > 1
            listeners, relay = open_doors(settings, shared=shared, connections=connections)
        except OSError as error:
            named = f"{settings.listen.port}, {settings.listen.http_port}"
            text = f"cannot listen on {settings.listen.host}:{named}: {error.strerror or error}"
            self._supervisor.say(FrontendFailed(cell=self._boot.cell, message=text))
            return
        config = make_config(
            settings,
            listeners=len(listeners),
            connections=connections,
            streams=self._streams,
            tls=bool(settings.security.tls_cert),
            client_certificates=settings.security.tls_client_ca is not None,
        )
        self._server = HttpServer(
            self._app,
            listeners,
            config,
            files=files,
            max_age_s=settings.limits.max_connection_age_s,
            # The supervisor starts another frontend.
            on_end=lambda: os._exit(1),
        )
        await self._server.start()
        if relay is not None:
            await relay.start()
        self._supervisor.start(self._dispatcher)
        self._supervisor.say(FrontendUp(cell=self._boot.cell, port=settings.listen.port))
        # What is there now stays for good: no collection need look at it again.
        gc.collect()
        gc.freeze()
        self._keep_warm.start()
        MallocTrimmer(lambda: self._service.count, keeps=lambda: self._sleep.keeps_warm).start(
            self._loop
        )
        await self._supervisor.ended
        self._observer.close()
        self._dispatcher.close()
        self._inference.close()


async def _serve(boot: CellBoot) -> None:
    with told(boot):
        await Frontend(boot).run()
    logging.shutdown()
    # Here, and not once asyncio has cancelled what is under way: who waits for an answer that will
    # not come finds the connection closed, which is UNAVAILABLE, and tries again.
    os._exit(0)


def main() -> None:
    """Entry of the process: the boot file's descriptor is the second argument."""
    with os.fdopen(int(sys.argv[2]), "rb") as file:
        boot = msgspec.json.decode(file.read(), type=CellBoot)
    logs.configure(boot.settings.logging, f"frontend {boot.cell}")
    with told(boot):
        sandbox.keep_memory_private()
        # What the loop is made of: where it cannot have them, it raises and complains besides.
        check_descriptors(_LOOP_DESCRIPTORS)
        uvloop.run(_serve(boot))


if __name__ == "__main__":
    main()
