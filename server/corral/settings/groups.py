"""The groups of settings. None means: the mode, the plan or a measurement decides."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from corral.accuracy import Thresholds
from corral.settings.kinds import (
    Allocator,
    BackendName,
    BatchItems,
    Cosine,
    Count,
    Decibels,
    Duration,
    Figure,
    IdleDuration,
    LogFormat,
    LogLevel,
    MetadataBytes,
    Mode,
    Name,
    NullDuration,
    Port,
    Precision,
    Processes,
    QueueDelay,
    RequestItems,
    Share,
    Streams,
    TorchMode,
    Wait,
)
from corral.settings.option import Group, option


class ModelSettings(Group, frozen=True, kw_only=True):
    """What is served, what for, and where its files lie."""

    TITLE: ClassVar[str] = "what to serve"

    mode: Annotated[
        Mode,
        option(
            "rti (real-time inference): every answer as soon as possible; throughput: as many "
            "answers as possible",
            live=True,
        ),
    ] = Mode.RTI
    name: Annotated[
        Name,
        option(
            "one of: {models}; or the path of an ONNX file or an OpenVINO IR",
            metavar="NAME",
            name="model",
        ),
    ] = "resnet50"
    weights: Annotated[
        Name,
        option(
            "a file (safetensors or a state dict), imagenet, synthetic, or auto: cached weights, "
            "else downloaded ones, else synthetic ones",
            live=True,
            metavar="WEIGHTS",
        ),
    ] = "auto"
    cache_dir: Annotated[
        Name,
        option(
            "folder for artefacts and weights",
            metavar="DIR",
            default="$CORRAL_CACHE, else ~/.cache/corral",
        ),
    ] = ".cache/corral"
    offline: Annotated[
        bool,
        option("do not download weights (CORRAL_OFFLINE=1 does the same)", live=True),
    ] = False


class EngineSettings(Group, frozen=True, kw_only=True):
    """What runs the model."""

    TITLE: ClassVar[str] = "engine"

    backend: Annotated[
        BackendName,
        option(
            "the engine; auto measures the installed engines once and takes the fastest; null "
            "answers without computing, for tests of the data path",
            live=True,
        ),
    ] = BackendName.AUTO
    precision: Annotated[
        Precision,
        option("the arithmetic; auto takes the fastest that agrees with fp32", live=True),
    ] = Precision.AUTO
    torch_mode: Annotated[
        TorchMode,
        option(
            "how torch and ipex run the model; auto is compile for torch and traced for ipex",
            live=True,
        ),
    ] = TorchMode.AUTO
    worker_python: Annotated[
        Name | None,
        option(
            "Python interpreter of the workers, from an environment of their own (make ipex makes "
            "one)",
            live=True,
            metavar="PATH",
            default="the server's own",
        ),
    ] = None


class AccuracySettings(Group, frozen=True, kw_only=True):
    """What must hold of a lower precision's logits beside those of FP32."""

    TITLE: ClassVar[str] = "accuracy (what a lower precision must keep of fp32's answers)"
    PREFIX: ClassVar[str] = "accuracy_"

    top1: Annotated[
        Share,
        Streams,
        option(
            "least share of pictures that keep their label",
            live=True,
            metavar="SHARE",
        ),
    ] = Thresholds().top1
    cosine: Annotated[
        Cosine,
        option("least mean cosine similarity", live=True, metavar="COSINE"),
    ] = Thresholds().cosine
    snr_db: Annotated[
        Decibels,
        option("least signal-to-noise ratio", live=True, metavar="DB", unit="dB"),
    ] = Thresholds().snr_db


class PlacementSettings(Group, frozen=True, kw_only=True):
    """Which processes there are, and what memory they run on."""

    TITLE: ClassVar[str] = "placement"

    workers: Annotated[
        Processes | None,
        option(
            "number of worker processes", live=True, metavar="N", default="what the cores allow"
        ),
    ] = None
    cores_per_worker: Annotated[
        Processes | Literal["node"] | None,
        option(
            "physical cores of a worker, or node for a whole NUMA node",
            live=True,
            metavar="N",
            unit="cores",
            default="2 to 4",
        ),
    ] = None
    cells: Annotated[
        Processes | None,
        option("groups of workers with a gRPC front each", metavar="N", default="one a NUMA node"),
    ] = None
    front_us: Annotated[
        Figure | None,
        option(
            "CPU time that a request costs the frontend",
            metavar="US",
            unit="microseconds",
            default="as measured here",
        ),
    ] = None
    images_per_core_s: Annotated[
        Figure | None,
        option(
            "images that one core of the workers computes in a second",
            metavar="N",
            unit="images/s",
            default="as measured here",
        ),
    ] = None
    oversubscribe: Annotated[
        bool,
        option("let workers share CPUs (for tests with the null backend)", live=True),
    ] = False
    allocator: Annotated[Allocator, option("the workers' malloc", live=True)] = Allocator.TCMALLOC
    huge_pages: Annotated[
        bool,
        option(
            "ask for transparent huge pages in the workers, where malloc or torch can use them",
            live=True,
        ),
    ] = True

    @property
    def memory(self) -> str:
        """The malloc and its pages, as keys of measurements name them."""
        return f"{self.allocator.value}, huge pages {self.huge_pages}"


class QueueSettings(Group, frozen=True, kw_only=True):
    """What may wait, and how it becomes batches."""

    TITLE: ClassVar[str] = "queue and batches"

    max_batch: Annotated[
        BatchItems | None,
        option(
            "most items that one execution takes, 1 for never more than one",
            live=True,
            metavar="N",
            unit="items",
            default="what pays by the measured cost curve",
        ),
    ] = None
    max_queue_delay_ms: Annotated[
        QueueDelay,
        option(
            "longest wait of a request for others to share its batch",
            live=True,
            metavar="MS",
            unit="ms",
        ),
    ] = 0.0
    max_queue: Annotated[
        Count | None,
        option(
            "items that may wait in a cell",
            live=True,
            metavar="N",
            unit="items",
            default="64 for each worker; for throughput 64 of its largest batches",
        ),
    ] = None
    max_items: Annotated[
        RequestItems, option("items in one request", metavar="N", unit="items")
    ] = 32
    max_image_bytes: Annotated[
        Count, option("size of one encoded picture", metavar="BYTES", unit="bytes")
    ] = 16 * 2**20
    max_image_pixels: Annotated[
        Count,
        option("pixels of one encoded picture", live=True, metavar="PIXELS", unit="pixels"),
    ] = 50_000_000


class ListenSettings(Group, frozen=True, kw_only=True):
    """Where the server can be reached."""

    TITLE: ClassVar[str] = "addresses"

    host: Annotated[Name, option("address of the gRPC and the HTTP port", metavar="HOST")] = (
        "127.0.0.1"
    )
    port: Annotated[Port, option("the gRPC port, 0 for a free one", metavar="PORT")] = 8001
    http_port: Annotated[
        Port | None,
        option(
            "the HTTP port, 0 for a free one; both ports speak both",
            metavar="PORT",
            default="8000, or a free one where that is taken or --port is 0",
        ),
    ] = None
    metrics_host: Annotated[Name, option("address of the metrics port", metavar="HOST")] = (
        "127.0.0.1"
    )
    metrics_port: Annotated[
        Port, option("port of /metrics, /livez and /readyz, 0 for a free one", metavar="PORT")
    ] = 8002
    unix_socket: Annotated[
        Name | None,
        option(
            "a unix socket beside the ports, for one cell; everybody who may enter its folder "
            "may connect",
            metavar="PATH",
            default="none",
        ),
    ] = None
    admin_socket: Annotated[
        Name | None,
        option(
            "unix socket for corral status, reload and mode",
            metavar="PATH",
            default="PORT.sock in $XDG_RUNTIME_DIR/corral, else in /tmp/corral-UID",
        ),
    ] = None
    client_shared_memory: Annotated[
        bool,
        option(
            "take tensors from the shared memory of clients on this machine (Triton's extension)"
        ),
    ] = False


class SecuritySettings(Group, frozen=True, kw_only=True):
    """TLS, who may connect, and what workers may do."""

    TITLE: ClassVar[str] = "security (see SECURITY.md)"

    tls_cert: Annotated[
        Name | None,
        option("serve TLS with this certificate chain, PEM", metavar="FILE", default="no TLS"),
    ] = None
    tls_key: Annotated[
        Name | None,
        option("private key of the certificate, PEM", metavar="FILE", default="none"),
    ] = None
    tls_client_ca: Annotated[
        Name | None,
        option(
            "let in clients whose certificate one of these authorities signed, PEM",
            metavar="FILE",
            default="any client",
        ),
    ] = None
    allow_client: Annotated[
        tuple[Name, ...],
        option(
            "let in clients whose certificate has this name; may be repeated",
            metavar="NAME",
            default="any name that an authority signed",
        ),
    ] = ()
    auth_token_file: Annotated[
        Name | None,
        option(
            "let in clients that send one of these bearer tokens, one a line",
            metavar="FILE",
            default="any client",
        ),
    ] = None
    worker_user: Annotated[
        Name | None,
        option(
            "run the workers as this user, when started as root",
            metavar="NAME",
            default="the server's own",
        ),
    ] = None
    seccomp: Annotated[
        bool,
        option("forbid ready workers to start programs, to use the network and to debug processes"),
    ] = False


class LimitSettings(Group, frozen=True, kw_only=True):
    """How much clients may ask for at once."""

    TITLE: ClassVar[str] = "limits"

    max_connections: Annotated[
        Count, option("connections to a cell", metavar="N", unit="connections")
    ] = 2048
    max_streams: Annotated[
        Streams, option("requests at once on a connection", metavar="N", unit="requests")
    ] = 1024
    max_requests: Annotated[
        Count | None,
        option(
            "requests of a cell that are under way, those still arriving included",
            metavar="N",
            unit="requests",
            default="1024 more than may wait",
        ),
    ] = None
    max_message_bytes: Annotated[
        Count | None,
        option(
            "size of a message",
            metavar="BYTES",
            unit="bytes",
            default="what --max-items and --max-image-bytes need",
        ),
    ] = None
    max_metadata_bytes: Annotated[
        MetadataBytes, option("size of a request's metadata", metavar="BYTES", unit="bytes")
    ] = 16384
    max_connection_idle_s: Annotated[
        IdleDuration,
        option(
            "close a connection after so long without a request, 0 for never",
            metavar="S",
            unit="seconds",
        ),
    ] = 900.0
    max_connection_age_s: Annotated[
        Duration,
        option("ask a client to reconnect after so long, 0 for never", metavar="S", unit="seconds"),
    ] = 0.0


class LifecycleSettings(Group, frozen=True, kw_only=True):
    """How processes start, come back and end."""

    TITLE: ClassVar[str] = "lifecycle"

    boot_timeout_s: Annotated[
        Wait,
        option(
            "give up when no worker is ready after so long",
            live=True,
            metavar="S",
            unit="seconds",
        ),
    ] = 300.0
    restart_backoff_s: Annotated[
        Wait,
        option(
            "first pause after a worker died before it was ready",
            live=True,
            metavar="S",
            unit="seconds",
        ),
    ] = 1.0
    restart_backoff_max_s: Annotated[
        Wait, option("longest such pause", live=True, metavar="S", unit="seconds")
    ] = 30.0
    drain_delay_s: Annotated[
        Duration,
        option(
            "on SIGTERM, say NOT_SERVING and go on taking requests for that long, until load "
            "balancers know",
            live=True,
            metavar="S",
            unit="seconds",
        ),
    ] = 0.0
    grace_s: Annotated[
        Duration,
        option(
            "on SIGTERM, time to answer what was accepted",
            live=True,
            metavar="S",
            unit="seconds",
        ),
    ] = 30.0
    hang_floor_s: Annotated[
        Wait,
        option(
            "least time before a worker that does not answer is killed; ten times what its batch "
            "should take, if that is more",
            live=True,
            metavar="S",
            unit="seconds",
        ),
    ] = 5.0


class LoggingSettings(Group, frozen=True, kw_only=True):
    """What is logged, and how."""

    TITLE: ClassVar[str] = "logging"
    PREFIX: ClassVar[str] = "log_"

    level: Annotated[LogLevel, option("least severe log lines shown", live=True)] = LogLevel.INFO
    format: Annotated[LogFormat, option("form of the log lines")] = LogFormat.TEXT


class NullSettings(Group, frozen=True, kw_only=True):
    """How the null backend behaves."""

    TITLE: ClassVar[str] = "the null backend"
    PREFIX: ClassVar[str] = "null_"

    batch_ms: Annotated[
        NullDuration, option("time of a batch", live=True, metavar="MS", unit="ms")
    ] = 0.0
    item_ms: Annotated[
        NullDuration,
        option("time of each item, besides the batch's", live=True, metavar="MS", unit="ms"),
    ] = 0.0
    spin: Annotated[bool, option("compute for that time instead of sleeping", live=True)] = False
