"""A profile as values: what ``corral profile --json`` writes, and ``--compare`` reads."""

from __future__ import annotations

from pathlib import Path

import msgspec

from corral.errors import ConfigError, os_reason
from corral.profiling.threads import ThreadUse
from corral.settings.files import read_file
from corral.settings.ranges import shortened

FORMAT = "corral-profile-1"


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution of times, microseconds."""

    name: str
    p50_us: float
    p99_us: float
    mean_us: float


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request's time goes."""

    requests: int
    #: receive, admit, queue, copy, wake, infer, copy out, answer
    phases: list[Span]
    #: the phases of each request added up: from its message's first byte to its answer
    total: Span
    #: from the client's first byte to its answer's last; None where the clients are others'
    client: Span | None
    #: requests that were not written down, for there were too many
    dropped: int


class OperatorRow(msgspec.Struct, frozen=True, kw_only=True):
    """One operator; the same columns for every engine."""

    name: str
    type: str
    #: the implementation, in the engine's word; empty: it does not say
    kernel: str
    isa: str
    precision: str
    calls: int
    us: float
    share_percent: float
    cumulated_percent: float
    #: operations of one inference, and a second; None where they are not known
    gflop: float | None
    gflop_s: float | None
    #: of what this CPU was measured to do in that precision
    peak_percent: float | None
    #: operations a byte, if nothing were in a cache; None where they are not known
    intensity: float | None
    #: "reference kernel", "reorder", or nothing
    remark: str


class Peak(msgspec.Struct, frozen=True, kw_only=True):
    """The most that the worker's CPUs did, measured."""

    precision: str
    isa: str
    gflop_s: float


class EngineFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The engine alone, on one worker's CPUs."""

    described: dict[str, str]
    batch: int
    cpus: list[int]
    #: a batch without the profiler
    inference: Span
    #: how much more the operators add up to, under the engine's profiler, than ``inference``'s
    #: p50; None where they add up to less: what the profiler takes is within the noise
    profiler_percent: float | None
    operators: list[OperatorRow]
    threads: ThreadUse
    peaks: list[Peak]
    #: of copies; None where it was not measured
    bandwidth_gb_s: float | None


class ProfileReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole; parts that were not measured are None."""

    format: str = FORMAT
    cpu: str
    model: str
    mode: str
    #: "a server of its own" or "the running server"
    served_by: str
    workers: int
    seconds: float
    #: how much of a worker's CPUs others used meanwhile; None where it is not known
    busy_percent: float | None = None
    budget: Budget | None = None
    engine: EngineFigures | None = None
    #: threads of the serving workers while requests came, by worker
    worker_threads: dict[str, ThreadUse] = msgspec.field(default_factory=dict)
    notes: list[str] = msgspec.field(default_factory=list)


class _Form(msgspec.Struct):
    """What tells, of any version, which it is."""

    format: str = FORMAT


def load(path: Path) -> ProfileReport:
    """Reads a profile.

    Raises:
        ConfigError: it is none.
    """
    try:
        content, _ = read_file(path)
        form = msgspec.json.decode(content, type=_Form).format
        if form != FORMAT:
            raise ConfigError(f"{path}: a profile of another form, {shortened(form)}")
        return msgspec.json.decode(content, type=ProfileReport)
    except OSError as error:
        raise ConfigError(f"{path}: {os_reason(error)}") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError(f"{path}: no profile of corral profile --json ({error})") from None


def span(name: str, times_us: list[float]) -> Span:
    """The distribution of some times; there must be one."""
    ordered = sorted(times_us)
    last = len(ordered) - 1
    return Span(
        name=name,
        p50_us=ordered[round(last * 0.50)],
        p99_us=ordered[round(last * 0.99)],
        mean_us=sum(ordered) / len(ordered),
    )
