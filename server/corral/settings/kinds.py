"""What a setting's value can be: choices, and numbers within what they end in."""

from __future__ import annotations

import enum
import sys
from typing import Annotated

import msgspec

#: what HTTP/2 can tell of streams and heads
_UINT32_MOST = 2**32 - 1
#: a boot message's integers
_INT64_MOST = 2**63 - 1
#: JSON has no infinity
_FINITE = sys.float_info.max
#: CPUs that a Linux kernel can be built for, and so the most workers with a CPU each
_PROCESSES_MOST = 8192

Count = Annotated[int, msgspec.Meta(ge=1, le=_INT64_MOST)]
Streams = Annotated[int, msgspec.Meta(ge=1, le=_UINT32_MOST)]
Processes = Annotated[int, msgspec.Meta(ge=1, le=_PROCESSES_MOST)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Duration = Annotated[float, msgspec.Meta(ge=0, le=_FINITE)]
Wait = Annotated[float, msgspec.Meta(gt=0, le=_FINITE)]
#: a measured one: what is computed with it stays finite
Figure = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
#: what h2corn takes, less than 64 bits of seconds
IdleDuration = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
#: ModelConfig tells the delay as microseconds in a uint64
QueueDelay = Annotated[float, msgspec.Meta(ge=0, le=1.8e16)]
#: ModelConfig tells it in the same way
QueueTimeout = QueueDelay
BulkHold = QueueDelay
#: time.sleep() takes no more than 292 years, and a batch may hold 256 items
NullDuration = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
#: libiomp5 counts it in an int; more than an hour is for ever
OpenmpSpin = Annotated[int, msgspec.Meta(ge=0, le=3_600_000)]
#: interactive requests keep at least half of the time
BulkShare = Annotated[float, msgspec.Meta(ge=0, le=0.5)]
#: a part of all requests
Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]
#: a share; more than half would let anything pass
Loss = Annotated[float, msgspec.Meta(ge=0, le=0.5)]
Decibels = Annotated[float, msgspec.Meta(ge=-_FINITE, le=_FINITE)]
BatchItems = Annotated[int, msgspec.Meta(ge=1, le=256)]
RequestItems = Annotated[int, msgspec.Meta(ge=1, le=1024)]
MetadataBytes = Annotated[int, msgspec.Meta(ge=1024, le=_UINT32_MOST)]
Name = Annotated[str, msgspec.Meta(min_length=1, extra={"needed": "a text that is not empty"})]
#: it stands in clients' requests and in paths
ServedName = Annotated[
    str,
    msgspec.Meta(
        # Python's $ would let a line's end through.
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z",
        extra={"needed": "a name of 1 to 100 letters, digits, _, . and -, the last two not first,"},
    ),
]


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


class KeepWarm(enum.StrEnum):
    """Whether workers that have nothing to do run the model now and then; AUTO is for rti."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


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
