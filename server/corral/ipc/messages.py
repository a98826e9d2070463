"""What the supervisor and its children say to one another.

Control messages are JSON over SOCK_SEQPACKET socketpairs (one message a packet, descriptors by
SCM_RIGHTS). What a frontend and a worker say to one another is in packets.py.
"""

from __future__ import annotations

import msgspec

from corral.accuracy import AccuracyReport
from corral.settings import Settings
from corral.tensors import Datatype, Signature, View

#: names, in a child's environment, what its launcher was refused, one sentence a line
WARNINGS_VARIABLE = "CORRAL_LAUNCH_WARNINGS"
#: the largest control message, bytes
MAX_CONTROL_BYTES = 65536


# --- boot: a child's configuration, JSON behind a descriptor; those in it are filled in later ---


class ModelBoot(msgspec.Struct, frozen=True, kw_only=True):
    """The model as prepared: what the children need to know beyond its name."""

    name: str
    #: path of the OpenVINO IR (.xml); None for the null backend
    artefact: str | None
    #: the precision that came out, "fp32", "bf16" or "int8"
    precision: str
    #: whether the weights carry no knowledge, and a person's description of them
    synthetic: bool
    weights: str
    #: what the precision guard found; None for FP32 that serves in place of nothing
    guard: AccuracyReport | None = None
    #: who won the search for the fastest, and by how much; empty where nothing was searched
    search: str = ""
    #: why it is not what was asked for, as an INT8 with no layer in INT8; empty where it is
    remark: str = ""
    #: what the user's file fixes its batch at; it runs in batches of one then
    fixed_batch: int | None = None


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a frontend serves: all that it needs to know of the model, so that it opens no file."""

    #: the views' names are made from it
    name: str
    signature: Signature
    #: length of the logits, and their names in that order; empty: their numbers are all there is
    classes: int
    labels: tuple[str, ...]

    @property
    def views(self) -> tuple[View, ...]:
        """The signatures that it is served under."""
        return self.signature.views


class CellBoot(msgspec.Struct, frozen=True, kw_only=True):
    """A frontend's boot file."""

    cell: int
    #: number of cells in all; the counter memory has a page for each
    cells: int
    #: number of worker slots in this cell
    slots: int
    #: number of workers in all cells
    workers: int
    #: worker slots that a cell's counter page has room for: its layout depends on it
    page_slots: int
    #: the largest batch a region holds
    region_batch: int
    settings: Settings
    model: ModelBoot
    served: ServedModel
    counters_fd: int
    control_fd: int = -1
    #: where it tells of requests that have ended; -1: nobody wants to know
    reports_fd: int = -1


class WorkerBoot(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's boot file."""

    worker: int
    cell: int
    cpus: list[int]
    #: OpenMP/oneTBB threads, one a core
    threads: int
    region_batch: int
    #: shapes, and how pixels become the input: a file of the user's may have moved since
    signature: Signature
    #: batch sizes to compile; with ``find_knee`` the worker stops where batching stops paying
    sizes: list[int]
    find_knee: bool
    #: what these cost when they were measured: seconds by "DATATYPE:count"
    known_s: dict[str, float] = {}
    #: shared objects that must be found mapped, by what they are for ("allocator", "openmp")
    expected_libraries: dict[str, str]
    settings: Settings
    model: ModelBoot
    control_fd: int = -1
    data_fd: int = -1
    region_fd: int = -1
    #: a trial's: this datatype alone is compiled, and no costs are measured
    only: Datatype | None = None


# --- control: child to supervisor ---

#: what a model's answers are, of those that are a list of classes
LOGITS, PROBABILITIES = "logits", "probabilities"
#: the same in percent: they add up to 100
PERCENTAGES = "percentages"
#: of classes that do not exclude one another, as a sigmoid gives them: they add up to anything
INDEPENDENT = "independent_probabilities"


class ModelFindings(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker found out of the model by its answers, for clients."""

    #: ``LOGITS``, ``PROBABILITIES``, ``PERCENTAGES`` or ``INDEPENDENT``; empty where the answers
    #: are no classes, or nobody looked
    output_kind: str = ""
    #: why batches are no larger than they are; empty where the model does not limit them
    batch_limit: str = ""
    #: how an input is answered otherwise when it comes again; empty where it is not
    unsteady: str = ""


class WorkerReady(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The worker has compiled, warmed up and looked at what took hold."""

    worker: int
    #: seconds of one batch, by "DATATYPE:count", e.g. {"FP32:1": 0.024}
    costs_s: dict[str, float]
    sizes: list[int]
    #: bytes after warm-up, a page that several share or map counted once among them (PSS)
    memory_bytes: int
    #: what the engine says of itself: engine, version, precision, threads
    engine: dict[str, str]
    #: what took hold: e.g. {"allocator": "libtcmalloc_minimal.so.4", "affinity": "0-1"}
    checks: dict[str, str]
    #: what did not, one sentence each
    warnings: list[str]
    findings: ModelFindings = ModelFindings()
    #: the share of the worker's CPUs' time, 0 to 1, that others took while it warmed up
    other_load: float = 0.0


class WorkerFailed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The worker cannot start, and trying again would not help: exit code 2."""

    worker: int
    message: str
    #: it may work on another day (disk, compiler): a search does not remember it
    passing: bool = False


class FrontendUp(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The frontend listens and takes workers."""

    cell: int
    port: int


class FrontendFailed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The frontend cannot start, and trying again would not help: exit code 2."""

    cell: int
    message: str


class WorkerVerified(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A batch went through this worker and came back."""

    worker: int


class WorkerGone(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The worker's data socket ended, or was given up; what it held is queued again."""

    worker: int
    #: which of the processes that have filled its slot
    pid: int
    #: it did not answer in time: it will not leave by itself
    hung: bool = False


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The frontend takes requests: the answer to Open."""


class Reconfigured(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The frontend goes by the settings of the Reconfigure of that number."""

    number: int


class Drained(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Everything accepted is answered; the frontend may end."""

    cell: int


class Pong(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The frontend's loop runs: the answer to a Ping."""

    number: int


class Traced(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The frontend has stopped writing down its requests' phases."""

    cell: int
    #: records in the memory, and requests that found no room there
    requests: int
    dropped: int


class AskView(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Somebody looks at the console: how is the server? Unless its view is still this one."""

    known: int


# --- control: supervisor to frontend ---


class AttachWorker(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A worker to feed. Carries two descriptors: its data socket, its region."""

    worker: int
    #: the worker's slot in the cell's counter page, 0 .. slots - 1
    slot: int
    pid: int
    sizes: list[int]
    costs_s: dict[str, float]
    #: the largest batch its region holds
    region_batch: int
    findings: ModelFindings = ModelFindings()
    #: the weights that it answers by: the same of workers whose answers may be mixed
    generation: str = ""


class DetachWorker(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Let the worker finish its batch and give it no other; then close its data socket."""

    worker: int


class Reconfigure(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Other settings hold from now on: the queue's limits, and what is said of the model.

    The frontend says Reconfigured with the same number.
    """

    number: int
    settings: Settings
    model: ModelBoot
    #: workers of this cell, and of all cells
    slots: int
    workers: int
    #: the largest batch a region holds
    region_batch: int


class CapBatches(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Batches hold at most so many items from now on; None: as many as are compiled."""

    most: int | None


class Open(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Every cell has a verified worker: say SERVING, take requests, and say Opened."""


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Say NOT_SERVING, then refuse what is new, answer what was accepted, then say Drained.

    ``delay_s`` is for load balancers to hear it, while requests are still taken.
    """

    delay_s: float = 0.0


class Ping(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Say Pong with the same number: a sign of life for the service manager's watchdog."""

    number: int


class StartTrace(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Note each request's phases from now on. Carries a descriptor: memory for the records."""

    #: records that the memory holds
    capacity: int


class StopTrace(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Note them no more, and say Traced."""


class TellView(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How the server is. Carries a descriptor: memory that holds a ``console.view.View``."""

    version: int
    length: int


FromChild = (
    WorkerReady
    | WorkerFailed
    | FrontendUp
    | FrontendFailed
    | WorkerVerified
    | WorkerGone
    | Opened
    | Reconfigured
    | Drained
    | Pong
    | Traced
    | AskView
)
ToFrontend = (
    AttachWorker
    | DetachWorker
    | Reconfigure
    | CapBatches
    | Open
    | Drain
    | Ping
    | StartTrace
    | StopTrace
    | TellView
)

from_child_decoder = msgspec.json.Decoder(FromChild)
to_frontend_decoder = msgspec.json.Decoder(ToFrontend)
encode = msgspec.json.encode
