"""What was read of a machine and of the server's processes: all that a check may look at."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from corral.doctor.layout import Layout
from corral.planning.machine import Machine
from corral.system.cpu_list import format_cpus
from corral.system.spun import Spun
from corral.system.tree import whole_number

if TYPE_CHECKING:
    from corral.doctor.probing.results import Probed

CPU_FOLDER = "sys/devices/system/cpu"
NODE_FOLDER = "sys/devices/system/node"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """What moves, at one moment.

    Attributes:
        at_s: on the monotonic clock.
        texts: counters' files by relative path.
        cpu_s: CPU time used by each process of the server, by pid.
        spun_s: CPU time of what spins for ``--keep-warm on``.
    """

    at_s: float
    texts: Mapping[str, str]
    cpu_s: Mapping[int, float] = dataclasses.field(default_factory=dict)
    spun_s: Spun = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """The whole.

    Attributes:
        machine: cores, nodes, and what is ours of them.
        layout: which process runs where.
        texts: files' contents by path below the root folder.
        refused: why some could not be read, by path.
        first: what moves, at the first look.
        second: the same some time later; None where there was one look only.
        live: whether this is the machine that we run on.
        amx_allowed: what the kernel said when AMX was asked for; None where it was not asked.
        probed: what was measured; None where nothing was.
    """

    machine: Machine
    layout: Layout
    texts: Mapping[str, str]
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)
    first: Look = dataclasses.field(default_factory=lambda: Look(at_s=0.0, texts={}))
    second: Look | None = None
    live: bool = False
    amx_allowed: bool | None = None
    probed: Probed | None = None

    # --- files ---

    def text(self, path: str) -> str | None:
        """A file's text; None where it could not be read."""
        return self.texts.get(path)

    def number(self, path: str) -> int | None:
        """The number that a file begins with; None where there is none."""
        return _number(self.texts.get(path))

    def missing(self, *paths: str) -> str:
        """Why none of these files could be read."""
        for path in paths:
            if path in self.refused:
                return f"/{path}: {self.refused[path]}"
        reason = f"/{paths[0]} is not there"
        return f"{reason}; a hypervisor hides it as a rule" if self.virtual else reason

    def below(self, folder: str) -> dict[str, str]:
        """The texts of the files below a folder, by the rest of their path."""
        start = f"{folder}/"
        return {
            path.removeprefix(start): text
            for path, text in self.texts.items()
            if path.startswith(start)
        }

    def by_cpu(self, name: str, cpus: Iterable[int] | None = None) -> dict[int, str]:
        """A file of each CPU's folder, by CPU, where it could be read; CPUs of the layout."""
        found = {}
        for cpu in self.layout.all_cpus if cpus is None else cpus:
            text = self.texts.get(f"{CPU_FOLDER}/cpu{cpu}/{name}")
            if text is not None:
                found[cpu] = text
        return found

    def numbers_by_cpu(self, name: str) -> dict[int, int]:
        """The same as numbers."""
        numbers = {cpu: _number(text) for cpu, text in self.by_cpu(name).items()}
        return {cpu: number for cpu, number in numbers.items() if number is not None}

    def of_process(self, pid: int | None, name: str) -> str | None:
        """A file of a process's folder in /proc; None where it could not be read."""
        return None if pid is None else self.texts.get(f"proc/{pid}/{name}")

    def not_shown(self, name: str) -> str:
        """Why a file of the workers' processes could not be read."""
        pids = [worker.pid for worker in self.layout.workers if worker.pid is not None]
        if not pids:
            return "no worker runs"
        path = f"proc/{pids[0]}/{name}"
        reason = self.refused.get(path, "it is not there")
        return f"/{path}: {reason}; ask as the user that the server runs as, or as root"

    @property
    def no_server(self) -> str:
        """Why nothing is known of a server's processes."""
        return (
            "no server is looked at (--port names one)"
            if self.live
            else "needs the machine itself, and a server there"
        )

    @property
    def not_probed(self) -> str:
        """Why nothing was measured."""
        return f"corral doctor --probe {'' if self.live else 'on that machine '}measures it"

    # --- what moves ---

    @property
    def span_s(self) -> float:
        """Seconds between the two looks; 0 where there was one."""
        return 0.0 if self.second is None else self.second.at_s - self.first.at_s

    def looks(self, path: str) -> tuple[str, str | None] | None:
        """A counter's file at both looks; None where it could not be read."""
        first = self.first.texts.get(path)
        if first is None:
            return None
        return first, None if self.second is None else self.second.texts.get(path)

    # --- the machine ---

    @property
    def virtual(self) -> bool:
        """Whether a hypervisor runs us."""
        return "hypervisor" in self.machine.isa

    @property
    def kernel(self) -> str:
        """The kernel's release, e.g. "6.8.0-45-generic"; empty where it is not known."""
        release = self.texts.get("proc/sys/kernel/osrelease")
        if release:
            return release
        found = re.match(r"Linux version (\S+)", self.texts.get("proc/version", ""))
        return found[1] if found else ""

    @property
    def siblings(self) -> dict[int, tuple[int, ...]]:
        """The other CPUs of each CPU's core, by CPU."""
        return {
            cpu: tuple(other for other in core.cpus if other != cpu)
            for core in self.machine.cores
            for cpu in core.cpus
        }


def _number(text: str | None) -> int | None:
    word = (text or "").split()[:1]
    return whole_number(word[0]) if word else None


def cpu_times(stat: str) -> dict[int, dict[str, int]]:
    """Ticks by kind, by CPU, of /proc/stat."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    found = {}
    for line in stat.splitlines():
        name, *values = line.split()
        if name.startswith("cpu") and name[3:].isdigit():
            found[int(name[3:])] = dict(zip(names, map(int, values), strict=False))
    return found


def spread(numbers: Mapping[int, str] | Mapping[int, int]) -> str:
    """What each CPU has, in few words: "performance on CPUs 0-3, powersave on CPUs 4-7"."""
    by_value: dict[str, list[int]] = {}
    for cpu, value in numbers.items():
        by_value.setdefault(str(value), []).append(cpu)
    if len(by_value) == 1:
        return next(iter(by_value))
    return ", ".join(f"{value} on CPUs {format_cpus(cpus)}" for value, cpus in by_value.items())
