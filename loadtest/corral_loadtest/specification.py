"""What to measure: the target, the input, the load, and when a measurement is good.

Every value is checked when a specification is made, from Python, JSON or the command line alike.
"""

from __future__ import annotations

import enum
import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

#: no measurement takes it, and no sum of two is infinite
_MOST = 1e15
Positive = Annotated[float, Meta(gt=0, le=_MOST)]
NotNegative = Annotated[float, Meta(ge=0, le=_MOST)]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Clients = Annotated[int, Meta(ge=1, le=100_000)]
Connections = Annotated[int, Meta(ge=1, le=10_000)]
Processes = Annotated[int, Meta(ge=1, le=1024)]
#: items and requests: what they take of the memory is looked at when they are made
Batch = Annotated[int, Meta(ge=1, le=1_000_000)]
Distinct = Annotated[int, Meta(ge=1, le=100_000)]
#: requests a second; no generator comes near
Rate = Annotated[float, Meta(gt=0, le=1e6)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
#: of Triton's protocol: 0 is the server's choice
Priority = Annotated[int, Meta(ge=0, le=2**31 - 1)]
#: what JPEG has room for
Side = Annotated[int, Meta(ge=1, le=65_535)]
Quality = Annotated[int, Meta(ge=1, le=100)]
#: as Linux has at most
Pid = Annotated[int, Meta(ge=1, le=2**22)]
Window = Annotated[float, Meta(ge=0.05, le=60)]
#: of interleaved repeats
Rounds = Annotated[int, Meta(ge=1, le=1000)]
#: of LoadGen, which makes them beforehand
Queries = Annotated[int, Meta(ge=1, le=10_000_000)]
#: of one measurement: at most a week, in seconds
Span = Annotated[float, Meta(gt=0, le=604_800)]
#: of a latency, in milliseconds: at most an hour
Bound = Annotated[float, Meta(gt=0, le=3.6e6)]
#: of a search, relative; at 1 it bisects nothing
Tolerance = Annotated[float, Meta(ge=1e-4, le=1)]
Share = Annotated[float, Meta(ge=0, le=1)]

_RANGE = re.compile(r"Expected `(int|float)` (>=|>|<=|<) ([-+.e\d]+)")
_KINDS = {"int": "a whole number", "float": "a number"}
_SIGNS = {">=": "{} or more", ">": "more than {}", "<=": "{} or less", "<": "less than {}"}


class WrongInput(ValueError):
    """What was asked for cannot be measured; the text is one sentence for the user."""


class OutOfRange(WrongInput):
    """One value is not allowed.

    Attributes:
        field: its path in the specification, "load.clients"; "" where the whole is meant.
        needed: what is allowed, "a whole number, 1 or more, is needed".
    """

    def __init__(self, field: str, needed: str) -> None:
        super().__init__(f"{field}: {needed}" if field else needed)
        self.field = field
        self.needed = needed


class InputKind(enum.StrEnum):
    """What a request carries."""

    FP32 = "fp32"
    UINT8 = "uint8"
    JPEG = "jpeg"


class ArrivalKind(enum.StrEnum):
    """How open-loop requests are spread over time."""

    POISSON = "poisson"
    CONSTANT = "constant"
    BURSTS = "bursts"
    TRACE = "trace"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A server of the Open Inference Protocol.

    Attributes:
        address: HOST:PORT or unix:PATH.
        model: its name there.
        version: of the model; empty for the server's choice.
        ca: PEM file of the authority that signed the server's certificate; None without TLS.
        token_file: file with a bearer token, sent as ``authorization`` metadata.
    """

    address: str = "127.0.0.1:8001"
    model: str = "resnet50"
    version: str = ""
    ca: str | None = None
    token_file: str | None = None


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """The requests' contents.

    Attributes:
        kind: None for what the model's metadata says.
        batch: items a request.
        distinct: different requests made beforehand and sent in turn.
        picture_width: of generated JPEG pictures, in pixels.
        picture_height: of generated JPEG pictures, in pixels.
        quality: of generated JPEG pictures.
        files: JPEG or PNG files to send instead.
        shape: of one item, where the metadata leaves dimensions open; None takes the metadata's.
        input_name: None for the model's only input.
        seed: of the generated contents.
        priority: the request parameter as Triton has it, 1 comes first; None for none.
    """

    kind: InputKind | None = None
    batch: Batch = 1
    distinct: Distinct = 4
    picture_width: Side = 500
    picture_height: Side = 375
    quality: Quality = 90
    files: tuple[str, ...] = ()
    shape: tuple[Count, ...] | None = None
    input_name: str | None = None
    seed: Seed = 0
    priority: Priority | None = None


class ClosedLoop(msgspec.Struct, frozen=True, kw_only=True, tag="closed"):
    """Clients that each send the next request as soon as the last was answered."""

    clients: Clients = 1


class OpenLoop(msgspec.Struct, frozen=True, kw_only=True, tag="open"):
    """Requests at intended times, whether or not the server keeps up.

    Attributes:
        rate_per_s: mean rate; of a trace, None plays it at its own speed.
        arrivals: how they are spread.
        burst: requests that arrive together, with ``bursts``.
        trace: file of arrival offsets in seconds, one a line, with ``trace``.
        seed: of the Poisson process.
        max_in_flight: unanswered requests at which a run is given up as hopeless.
    """

    rate_per_s: Rate | None = None
    arrivals: ArrivalKind = ArrivalKind.POISSON
    burst: Clients = 8
    trace: str | None = None
    seed: Seed = 0
    max_in_flight: Count = 100_000


class Floor(msgspec.Struct, frozen=True, kw_only=True):
    """The queue whose simulated waiting is printed beside the measured percentiles.

    Attributes:
        workers: that serve one request each at a time.
        service_ms: of one request; None measures it first, with one client.
    """

    workers: Clients
    service_ms: Positive | None = None


class Specification(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement.

    Attributes:
        target: where.
        payload: what.
        load: how much of it.
        duration_s: of the measured part.
        warm_up_s: sent at least before it, and not counted.
        warm_up_limit_s: sent at most before it while windows still differ; then the result is
            marked as not steady.
        stability: windows within this share of their mean are steady.
        window_s: length of the timeline's and the steady-state detection's windows.
        connections: over all generators; None for one a generator.
        processes: generators; None for as many as the machine and the load give work to.
        deadline_ms: gRPC deadline of every request; None for none.
        server_pid: root of the process tree whose CPU time and memory are measured.
        max_error_share: errors above this make the run invalid.
        drain_s: wait for answers after the last request.
        floor: queue to compare with.
    """

    target: Target = Target()
    payload: Payload = Payload()
    load: ClosedLoop | OpenLoop = ClosedLoop()
    duration_s: Positive = 10.0
    warm_up_s: NotNegative = 1.0
    warm_up_limit_s: NotNegative = 15.0
    stability: Positive = 0.1
    window_s: Window = 0.5
    connections: Connections | None = None
    processes: Processes | None = None
    deadline_ms: Positive | None = None
    server_pid: Pid | None = None
    max_error_share: Share = 0.01
    drain_s: NotNegative = 30.0
    floor: Floor | None = None


def make(fields: dict[str, Any]) -> Specification:
    """The specification that nested plain values describe.

    Raises:
        OutOfRange: a name or value is not allowed.
    """
    try:
        return msgspec.convert(fields, Specification)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        raise OutOfRange(where.strip("`$.").partition("[")[0], _in_words(what)) from error


def _in_words(what: str) -> str:
    """Turns msgspec's "Expected `int` >= 1" into "a whole number, 1 or more, is needed"."""
    found = _RANGE.fullmatch(what)
    if found is None:
        return what
    kind, sign, end = found.groups()
    return f"{_KINDS[kind]}, {_SIGNS[sign].format(end.removesuffix('.0'))}, is needed"


def with_load(specification: Specification, load: ClosedLoop | OpenLoop) -> Specification:
    """The same measurement under another load."""
    return msgspec.structs.replace(specification, load=load)
