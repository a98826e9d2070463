"""What a check says, and what all of them say together."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from corral.errors import printable
from corral.system.pid_namespace import HIDDEN

if TYPE_CHECKING:
    from corral.doctor.evidence import Evidence


class Status(enum.StrEnum):
    """How it stands with what a check looks at, the least first."""

    OK = "ok"
    #: worth knowing, nothing to do
    INFO = "info"
    #: it could not be read; ``found`` says why
    UNKNOWN = "unknown"
    #: it costs speed or steadiness
    WARNING = "warning"
    #: the server does not work as planned
    ERROR = "error"


#: of what was found, so that a file of any length makes one row
_MOST_CHARACTERS = 1000
#: from what is most urgent to what is least
BY_URGENCY = (Status.ERROR, Status.WARNING, Status.INFO, Status.UNKNOWN, Status.OK)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a check made of the evidence.

    Attributes:
        status: how it stands.
        found: what was found, a phrase.
        fix: the command that would change it; empty where there is none, or nothing to change.
        cpus: the CPUs that it is about; their workers suffer.
        workers: the workers that suffer, where CPUs do not tell.
        wanted: in place of the check's own, where it depends on the machine.
    """

    status: Status
    found: str
    fix: str = ""
    cpus: tuple[int, ...] = ()
    workers: tuple[int, ...] = ()
    wanted: str = ""


def ok(found: str) -> Outcome:
    """Nothing to do."""
    return Outcome(status=Status.OK, found=found)


def info(found: str, fix: str = "", **about: tuple[int, ...]) -> Outcome:
    """Worth knowing."""
    return Outcome(status=Status.INFO, found=found, fix=fix, **about)  # type: ignore[arg-type]


def unknown(reason: str) -> Outcome:
    """It could not be read, and this is why."""
    return Outcome(status=Status.UNKNOWN, found=reason)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check's row of the report."""

    id: str
    title: str
    status: Status
    #: what was found; for UNKNOWN why nothing was
    found: str
    wanted: str
    why: str
    #: the command that would change it; corral never runs it
    fix: str
    #: ids of the plan's workers that suffer
    workers: list[int]
    source: str


#: checks of the server's own processes and of their control groups: ours say nothing of them
OF_PROCESSES = frozenset(
    {
        *("cpu-quota", "quota-throttling", "cpuset", "whole-cores", "other-load", "memory-limit"),
        *("huge-pages-got", "memory-node", "swapped-workers"),
        *("open-files", "locked-memory", "processes", "openmp", "thread-affinity"),
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that is looked at.

    Attributes:
        id: what scripts call it.
        title: what people call it.
        wanted: the good value.
        why: what it costs otherwise.
        source: who says so.
        look: judges the evidence; pure.
    """

    id: str
    title: str
    wanted: str
    why: str
    source: str
    look: Callable[[Evidence], Outcome]

    def find(self, seen: Evidence) -> Finding:
        """The finding that the evidence gives."""
        try:
            hidden = seen.layout.hidden and self.id in OF_PROCESSES
            outcome = unknown(HIDDEN) if hidden else self.look(seen)
        except (ValueError, LookupError, ArithmeticError):
            # Files of another machine's tree may hold anything; the other checks go on.
            outcome = unknown("a file that tells it is not as the kernel writes it")
        urgent = outcome.status in {Status.ERROR, Status.WARNING, Status.INFO}
        suffering = {*outcome.workers, *seen.layout.workers_on(outcome.cpus)} if urgent else set()
        return Finding(
            id=self.id,
            title=self.title,
            status=outcome.status,
            found=_shown(outcome.found),
            wanted=outcome.wanted or self.wanted,
            why=self.why,
            fix=printable(outcome.fix),
            workers=sorted(suffering),
            source=self.source,
        )


def _shown(found: str) -> str:
    shown = printable(found[: _MOST_CHARACTERS + 1])
    return shown if len(shown) <= _MOST_CHARACTERS else f"{shown[:_MOST_CHARACTERS]} …"


def check(
    name: str, title: str, *, wanted: str, why: str, source: str
) -> Callable[[Callable[[Evidence], Outcome]], Check]:
    """Makes a check of the function that judges; see ``Check``."""

    def make(look: Callable[[Evidence], Outcome]) -> Check:
        return Check(id=name, title=title, wanted=wanted, why=why, source=source, look=look)

    return make


class MachineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The machine that was looked at, and what of it was looked at."""

    cpu: str
    packages: int
    nodes: int
    cores: int
    cpus: int
    #: instruction sets that matter to inference
    features: list[str]
    kernel: str
    #: of the hypervisor, if there is one
    virtual: bool
    mode: str
    workers: int
    #: "running server" or "plan"
    looked_at: str
    #: how busy the allowed CPUs were with other processes meanwhile; None where it is not known
    busy_percent: float | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``corral doctor --json`` prints."""

    machine: MachineFacts
    checks: list[Finding]
    #: how many of each status
    summary: dict[str, int]

    def of(self, *statuses: Status) -> list[Finding]:
        """The findings of these statuses."""
        return [finding for finding in self.checks if finding.status in statuses]


def count(findings: Iterable[Finding]) -> dict[str, int]:
    """How many findings have each status, the most urgent first; every status is there."""
    counts = dict.fromkeys((status.value for status in BY_URGENCY), 0)
    for finding in findings:
        counts[finding.status.value] += 1
    return counts


def exit_code(findings: Sequence[Finding], fail_on: Status) -> int:
    """0 where nothing is as bad as ``fail_on``; else 1 for warnings, 2 for errors."""
    statuses = {finding.status for finding in findings}
    if Status.ERROR in statuses:
        return 2
    return int(Status.WARNING in statuses and fail_on is Status.WARNING)


def sentence(findings: Sequence[Finding]) -> str:
    """The summary in one line: how many are well, and what is not."""
    counts = count(findings)
    words = {Status.ERROR: "error", Status.WARNING: "warning"}
    parts = [
        f"{counts[status]} {word}{'s' if counts[status] > 1 else ''} ({_titles(findings, status)})"
        for status, word in words.items()
        if counts[status]
    ]
    well = f"{counts[Status.OK]} of {len(findings)} checks are well"
    if counts[Status.UNKNOWN]:
        well += f", {counts[Status.UNKNOWN]} unknown"
    if not parts:
        return well
    return f"{', '.join(parts)}; {well}; corral doctor says more"


def _titles(findings: Sequence[Finding], status: Status) -> str:
    titles = [finding.title for finding in findings if finding.status is status]
    shown = ", ".join(titles[:3])
    return shown if len(titles) <= 3 else f"{shown}, {len(titles) - 3} more"
