"""CPU time and memory of a server: a process and all that it started, read from /proc."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from corral_loadtest.specification import WrongInput

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PARENT, _TIMES = 1, slice(11, 15)


def _stat(path: Path) -> list[str] | None:
    """The fields after the command's name, which may hold spaces and brackets itself."""
    try:
        return (path / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None  # it ended while we looked


def _tree(root_pid: int, proc: Path) -> dict[int, list[str]]:
    """Fields of the root and of every living descendant."""
    found = {
        int(path.name): fields
        for path in proc.iterdir()
        if path.name.isdigit() and (fields := _stat(path))
    }
    if root_pid not in found:
        raise WrongInput(f"there is no process {root_pid} to measure")
    children: dict[int, list[int]] = {}
    for pid, fields in found.items():
        children.setdefault(int(fields[_PARENT]), []).append(pid)
    tree, waiting = {}, [root_pid]
    while waiting:
        pid = waiting.pop()
        tree[pid] = found[pid]
        waiting += children.get(pid, [])
    return tree


def pids(root_pid: int, proc: Path = Path("/proc")) -> set[int]:
    """The root's and every living descendant's.

    Raises:
        WrongInput: there is no such process.
    """
    return set(_tree(root_pid, proc))


def _has_children(pid: int) -> bool:
    """By the kernel's lists of its threads' children; yes where it keeps none."""
    threads = Path(f"/proc/{pid}/task")
    try:
        return any((thread / "children").read_bytes() for thread in threads.iterdir())
    except OSError:
        return True


def end_below(root_pid: int) -> None:
    """Kills every living descendant, and not the root."""
    if not _has_children(root_pid):
        return
    for pid in pids(root_pid) - {root_pid}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def cpu_s(root_pid: int, proc: Path = Path("/proc")) -> float:
    """User and system seconds of the tree so far, children that ended and were reaped included.

    Raises:
        WrongInput: there is no such process.
    """
    tree = _tree(root_pid, proc)
    return sum(sum(int(t) for t in fields[_TIMES]) for fields in tree.values()) / _TICKS_PER_S


def cpu_by_process_s(root_pid: int, proc: Path = Path("/proc")) -> dict[int, float]:
    """The same by process, of threads that live, to the nanosecond where the kernel tells it.

    A tick of ``cpu_s`` is 10 ms: too coarse for the 1 % of half a second.

    Raises:
        WrongInput: there is no such process.
    """
    return {
        pid: _precise_s(proc / str(pid), fields) for pid, fields in _tree(root_pid, proc).items()
    }


def _precise_s(process: Path, fields: list[str]) -> float:
    """Seconds on a CPU by schedstat of each thread; by ticks where there is none."""
    try:
        spent = [
            int((task / "schedstat").read_text("utf-8").split()[0])
            for task in (process / "task").iterdir()
        ]
    except (OSError, IndexError):
        return sum(int(ticks) for ticks in fields[_TIMES][:2]) / _TICKS_PER_S
    return sum(spent) / 1e9


def memory_mib(root_pid: int, proc: Path = Path("/proc")) -> float | None:
    """Proportional set size: what is shared within the tree counts once; None if unreadable.

    Raises:
        WrongInput: there is no such process.
    """
    total_kib = 0
    for pid in _tree(root_pid, proc):
        try:
            text = (proc / str(pid) / "smaps_rollup").read_text("utf-8", "replace")
        except OSError:
            return None
        lines = (line.split() for line in text.splitlines())
        total_kib += sum(int(words[1]) for words in lines if words[0] == "Pss:")
    return total_kib / 1024
