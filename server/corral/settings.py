"""The settings: frozen, built once, unknown keys refused. Names are the command line's.

argv and the environment are read by cli.py alone; children receive a Settings by descriptor.
"""

from __future__ import annotations

import enum
import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from corral.accuracy import Thresholds
from corral.errors import ConfigError

Count = Annotated[int, msgspec.Meta(ge=1)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Duration = Annotated[float, msgspec.Meta(ge=0)]
Figure = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Name = Annotated[str, msgspec.Meta(min_length=1)]

_MAX_SOCKET_PATH = 107


class Mode(enum.StrEnum):
    """What the server is tuned for."""

    RTI = "rti"
    THROUGHPUT = "throughput"


class Precision(enum.StrEnum):
    """The arithmetic asked for; AUTO is the fastest that passes the precision guard."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"


class BackendName(enum.StrEnum):
    """The engine a worker runs; AUTO, the fastest, is settled before one starts."""

    AUTO = "auto"
    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"
    TORCH = "torch"
    IPEX = "ipex"
    NULL = "null"


class TorchMode(enum.StrEnum):
    """How the torch and ipex backends run a module; AUTO is compile for torch, traced for ipex."""

    AUTO = "auto"
    EAGER = "eager"
    CHANNELS_LAST = "channels_last"
    TRACED = "traced"
    COMPILE = "compile"


class Allocator(enum.StrEnum):
    """The malloc that workers run on."""

    TCMALLOC = "tcmalloc"
    JEMALLOC = "jemalloc"
    SYSTEM = "system"


class LogFormat(enum.StrEnum):
    """How log lines look."""

    TEXT = "text"
    JSON = "json"


class LogLevel(enum.StrEnum):
    """The least severe log lines shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Settings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"
):
    """Every setting. None means: the mode, the plan or a measurement decides."""

    mode: Mode = Mode.RTI
    model: Name = "resnet50"
    backend: BackendName = BackendName.AUTO
    precision: Precision = Precision.AUTO
    weights: Name = "auto"
    torch_mode: TorchMode = TorchMode.AUTO
    worker_python: Name | None = None

    accuracy_top1: Share = Thresholds().top1
    accuracy_cosine: Annotated[float, msgspec.Meta(ge=-1, le=1)] = Thresholds().cosine
    accuracy_snr_db: float = Thresholds().snr_db

    workers: Count | None = None
    cores_per_worker: Count | Literal["node"] | None = None
    cells: Count | None = None
    oversubscribe: bool = False
    front_us: Figure | None = None
    images_per_core_s: Figure | None = None
    allocator: Allocator = Allocator.TCMALLOC
    huge_pages: bool = True

    max_batch: Annotated[int, msgspec.Meta(ge=1, le=256)] | None = None
    max_queue_delay_ms: Duration = 0.0
    max_queue: Count | None = None
    max_items: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 32
    max_image_bytes: Count = 16 * 2**20
    max_image_pixels: Count = 50_000_000

    host: Name = "127.0.0.1"
    port: Port = 8001
    #: None: 8000, or a free one where ``port`` is 0
    http_port: Port | None = None
    metrics_host: Name = "127.0.0.1"
    metrics_port: Port = 8002

    tls_cert: Name | None = None
    tls_key: Name | None = None
    tls_client_ca: Name | None = None
    auth_token_file: Name | None = None
    allow_client: tuple[Name, ...] = ()
    worker_user: Name | None = None
    seccomp: bool = False

    max_connections: Count = 2048
    max_streams: Count = 1024
    max_requests: Count | None = None
    max_message_bytes: Count | None = None
    max_metadata_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 16384
    max_connection_idle_s: Duration = 900.0
    max_connection_age_s: Duration = 0.0
    min_ping_interval_s: Duration = 10.0

    null_batch_ms: Duration = 0.0
    null_item_ms: Duration = 0.0
    null_spin: bool = False

    boot_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 300.0
    restart_backoff_s: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    restart_backoff_max_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    grace_s: Duration = 30.0
    hang_floor_s: Annotated[float, msgspec.Meta(gt=0)] = 5.0

    admin_socket: Name | None = None
    client_shared_memory: bool = False
    unix_socket: Name | None = None

    log_level: LogLevel = LogLevel.INFO
    log_format: LogFormat = LogFormat.TEXT

    cache_dir: Name = ".cache/corral"
    offline: bool = False


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def field_names() -> dict[str, str]:
    """Option name (``cores-per-worker``) by attribute name (``cores_per_worker``)."""
    return {f.name: f.encode_name for f in msgspec.structs.fields(Settings)}


def build(*layers: dict[str, Any]) -> Settings:
    """Builds the settings from layers of option-name keys; later layers win.

    Raises:
        ConfigError: an unknown key or a value of the wrong kind, in one line.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer)
    known = set(field_names().values())
    unknown = sorted(set(merged) - known)
    if unknown:
        raise ConfigError(
            f"unknown setting {unknown[0]!r}; the settings are: {', '.join(sorted(known))}"
        )
    try:
        settings = msgspec.convert(merged, Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error))) from None
    _check_security(settings)
    _check_client_memory(settings)
    _check_unix_socket(settings)
    return settings


def _check_security(settings: Settings) -> None:
    """Half of what makes a server safe must not look like all of it."""
    if settings.tls_cert and not settings.tls_key:
        raise ConfigError("--tls-cert needs the certificate's private key, too: --tls-key FILE")
    if settings.tls_key and not settings.tls_cert:
        raise ConfigError("--tls-key needs the key's certificate, too: --tls-cert FILE")
    if settings.tls_client_ca and not settings.tls_cert:
        raise ConfigError("--tls-client-ca needs TLS: --tls-cert FILE --tls-key FILE")
    if settings.allow_client and not settings.tls_client_ca:
        raise ConfigError(
            "--allow-client goes by client certificates, so it needs --tls-client-ca FILE"
        )


def _check_client_memory(settings: Settings) -> None:
    """Who comes over a network shares no memory with the server, and must not be able to try."""
    if settings.client_shared_memory and not is_loopback(settings.host):
        raise ConfigError(
            f"--client-shared-memory is for clients on this machine; --host {settings.host} "
            "lets others in"
        )


def _check_unix_socket(settings: Settings) -> None:
    """The kernel's limit, said before anything is started."""
    if settings.unix_socket and len(os.fsencode(settings.unix_socket)) > _MAX_SOCKET_PATH:
        raise ConfigError(
            f"--unix-socket {settings.unix_socket}: a unix socket's path has at most "
            f"{_MAX_SOCKET_PATH} bytes"
        )


def _explain(message: str) -> str:
    """Turns msgspec's "… - at `$.max-batch`" into "--max-batch: …"."""
    text, _, where = message.partition(" - at `$.")
    return f"--{where.rstrip('`')}: {text[0].lower()}{text[1:]}" if where else message


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a settings file: the option names as keys.

    Raises:
        ConfigError: the file cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: not TOML: {error}") from None
