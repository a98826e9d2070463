"""The server around the model: addresses, security, limits, lifecycle, logging."""

from __future__ import annotations

from typing import Annotated, ClassVar

from corral.settings.kinds import (
    Count,
    Duration,
    IdleDuration,
    KeepWarm,
    LogFormat,
    LogLevel,
    MetadataBytes,
    Name,
    Port,
    Rate,
    Streams,
    Wait,
)
from corral.settings.option import Group, option


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
            path=True,
        ),
    ] = None
    admin_socket: Annotated[
        Name | None,
        option(
            "unix socket for corral status, reload and mode",
            metavar="PATH",
            default="PORT.sock in $XDG_RUNTIME_DIR/corral, else in /tmp/corral-UID or the like",
            path=True,
        ),
    ] = None
    console: Annotated[
        bool,
        option("show a page for people at / of the HTTP port, to everybody who may send requests"),
    ] = True
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
        option(
            "serve TLS with this certificate chain, PEM",
            metavar="FILE",
            default="no TLS",
            path=True,
        ),
    ] = None
    tls_key: Annotated[
        Name | None,
        option("private key of the certificate, PEM", metavar="FILE", default="none", path=True),
    ] = None
    tls_client_ca: Annotated[
        Name | None,
        option(
            "let in clients whose certificate one of these authorities signed, PEM",
            metavar="FILE",
            default="any client",
            path=True,
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
            path=True,
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
        Streams | None,
        option(
            "requests at once on a connection",
            metavar="N",
            unit="requests",
            default="twice as many as may wait, 128 to 1024",
        ),
    ] = None
    max_requests: Annotated[
        Count | None,
        option(
            "requests of a cell that are under way; as many more may wait for their client",
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
        MetadataBytes, option("size of a gRPC call's metadata", metavar="BYTES", unit="bytes")
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
    keep_warm: Annotated[
        KeepWarm,
        option(
            "send requests of zeros to itself now and then while nobody else asks, so that the "
            "first request after a silence waits no longer than the others: on, off, or auto: for "
            "rti, in at most 1 % of a worker's time; on also keeps CPUs from sleeping deeply",
            live=True,
        ),
    ] = KeepWarm.OFF
    keep_warm_every_s: Annotated[
        Duration,
        option(
            "with --keep-warm, from one request of the server's to itself to the next for each "
            "worker, at least",
            live=True,
            metavar="S",
            unit="seconds",
        ),
    ] = 0.2
    keep_warm_spin_s: Annotated[
        Duration,
        option(
            "with --keep-warm on, keep the CPUs of workers and frontends busy for so long after "
            "the last request, with what gives way to everything else of the same control group, "
            "and does harm beside other programs; 0 for never",
            live=True,
            metavar="S",
            unit="seconds",
        ),
    ] = 0.0


class TelemetrySettings(Group, frozen=True, kw_only=True):
    """What is told of each request: traces and the access log."""

    TITLE: ClassVar[str] = "traces and access log (see docs/tracing.md)"
    #: what --trace-rate is where nothing is said
    USUAL_RATE: ClassVar[float] = 0.01

    otlp_endpoint: Annotated[
        Name | None,
        option(
            "send traces to this OpenTelemetry collector, by OTLP over HTTP",
            metavar="URL",
            default="no traces",
        ),
    ] = None
    trace_rate: Annotated[
        Rate | None,
        option(
            "part of the requests that is traced, 0 to 1; a request with a traceparent is traced "
            "where that says so",
            live=True,
            metavar="RATE",
            default="0.01 with --otlp-endpoint",
        ),
    ] = None
    access_log: Annotated[
        Name | None,
        option(
            "write a line of JSON about each request to this file, or to standard output (-)",
            metavar="FILE",
            default="no access log",
            path=True,
        ),
    ] = None

    @property
    def rate(self) -> float:
        """The part of the requests that is traced."""
        return self.USUAL_RATE if self.trace_rate is None else self.trace_rate


class LoggingSettings(Group, frozen=True, kw_only=True):
    """What is logged, and how."""

    TITLE: ClassVar[str] = "logging"
    PREFIX: ClassVar[str] = "log_"

    level: Annotated[LogLevel, option("least severe log lines shown", live=True)] = LogLevel.INFO
    format: Annotated[LogFormat, option("form of the log lines")] = LogFormat.TEXT
