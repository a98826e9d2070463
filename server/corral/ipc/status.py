"""What the supervisor knows of its children: frozen snapshots that other threads may read.

The supervisor publishes a new snapshot after every event; whoever reads one (the metrics server,
in a thread of its own) holds something that never changes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import msgspec

from corral.accuracy import AccuracyReport


class Phase(enum.StrEnum):
    """Where the server as a whole is."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"


class State(enum.StrEnum):
    """Where one child is in its life."""

    #: not running; it is started when its delay is over
    WAITING = "waiting"
    #: running, and getting ready
    STARTING = "starting"
    #: has said that it is ready
    READY = "ready"
    #: a batch went through it and came back
    VERIFIED = "verified"
    #: not running, and not to be started again
    ENDED = "ended"


class Cause(enum.StrEnum):
    """Why a child had to be started again."""

    #: it died after it had been ready
    CRASH = "crash"
    #: it died before it was ready
    BOOT = "boot"
    #: it had been ready, did not answer in time, and was killed for it
    HANG = "hang"
    #: it was replaced on purpose, by one with new settings, weights or CPUs
    RELOAD = "reload"
    #: it left in order, because the other end of its data socket went away
    DETACHED = "detached"


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One worker slot. What the last process reported stays until the next one reports."""

    id: int
    cell: int
    #: index in the cell's counter page
    slot: int
    state: State
    #: None while no process runs
    pid: int | None
    #: how often the slot was filled again, by cause; every cause is there
    restarts: dict[Cause, int]
    cpus: list[int]
    cores: int
    memory_node: int | None
    #: seconds from spawn to ready of the last process that got there; None before
    boot_s: float | None
    #: proportional bytes (PSS) after warm-up; 0 before the first report
    memory_bytes: int
    #: see messages.WorkerReady
    engine: dict[str, str]
    checks: dict[str, str]
    warnings: list[str]
    sizes: list[int]
    costs_s: dict[str, float]

    @property
    def ready(self) -> bool:
        """True when the worker has said that it is ready, and lives."""
        return self.state in {State.READY, State.VERIFIED}


class CellStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One cell's frontend."""

    cell: int
    state: State
    #: None while no process runs
    pid: int | None
    restarts: dict[Cause, int]
    cpus: list[int]
    #: True when the frontend lives and one of its workers is verified
    ready: bool


class BoundStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a latency bound is kept; see supervisor/bound_keeper.py."""

    p99_ms: float
    #: up to how many requests a second it should be kept; None: not known yet; 0: at no rate
    keeps_per_s: float | None
    #: that come now
    now_per_s: float
    #: the most items of a batch; None: as many as are compiled
    batch_cap: int | None


class WarmStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What keeping a server without clients warm costs; see dataplane/upkeep.py."""

    #: seconds from one request that nobody asked for to the next, in each idle worker
    every_s: float
    #: of an idle worker's time
    share: float


class SpinStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What keeping CPUs from halting costs; see launch/spinner.py."""

    cpus: list[int]
    #: how long after the last request
    while_s: float
    #: of the process that starts one a CPU; None while none runs
    pid: int | None = None
    #: that they have taken since the server started, in CPU seconds
    cpu_s: float = 0.0


class ServerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The whole server at one moment."""

    phase: Phase
    #: True when requests are taken and every cell is ready
    ready: bool
    #: unix time at which the supervisor started
    started_at_s: float
    #: the supervisor's process; None where an earlier version does not say
    pid: int | None = None
    #: the one in which that and its children's are right; None where it is not known
    pid_namespace: int | None = None
    #: True where whoever asks does not see its processes: then their pids are None, too
    pids_hidden: bool = False
    #: seconds from there to the first ready; None before
    ready_after_s: float | None
    host: str
    port: int
    http_port: int
    metrics_host: str
    metrics_port: int
    mode: str
    model: str
    backend: str
    precision: str
    #: the allocator asked for; what each worker really has is in its checks
    allocator: str
    weights: str
    #: True when the weights carry no knowledge
    synthetic: bool
    #: what the precision guard found, or None
    guard: AccuracyReport | None = None
    #: who won the search for the fastest, and by how much; or nothing
    search: str = ""
    cells: list[CellStatus]
    workers: list[WorkerStatus]
    #: what did not take hold, one sentence each, without repeats
    warnings: list[str]
    #: path of the admin socket; None where there is none
    admin_socket: str | None = None
    #: None where no bound was asked for
    bound: BoundStatus | None = None
    #: None where workers are not kept warm, or no worker has said yet what a batch takes
    warm: WarmStatus | None = None
    #: None where no CPU is kept from halting
    spin: SpinStatus | None = None


class StatusBoard:
    """Holds the latest snapshot: one thread publishes, any thread reads."""

    def __init__(self, status: ServerStatus) -> None:
        self._status = status
        self._change: str | None = None
        self._complete: Callable[[ServerStatus], ServerStatus] = lambda status: status
        self._subscribers: list[Callable[[ServerStatus, str | None], None]] = []

    def subscribe(self, callback: Callable[[ServerStatus, str | None], None]) -> None:
        """Has every snapshot told, in the publisher's thread, with the change that is under way."""
        self._subscribers.append(callback)

    def publish(self, status: ServerStatus) -> None:
        """Replaces the snapshot (one reference: atomic for readers)."""
        self._status = status
        self._tell()

    def changing(self, what: str | None) -> None:
        """A reload or the like begins; None: it is over."""
        self._change = what
        self._tell()

    def _tell(self) -> None:
        for callback in self._subscribers:
            callback(self._status, self._change)

    def current(self) -> ServerStatus:
        """The latest snapshot, with what is read when somebody asks."""
        return self._complete(self._status)

    def complete_with(self, complete: Callable[[ServerStatus], ServerStatus]) -> None:
        """Has every snapshot that is asked for completed, in the thread of whoever asks."""
        self._complete = complete
