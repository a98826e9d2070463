"""Starting a child: launcher, boot file, descriptors, and the process that comes of it.

Spawn from the main thread only: the children's death signal fires when the *thread* that spawned
them ends.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from corral.ipc.messages import WARNINGS_VARIABLE
from corral.launch.launcher import IGNORED_SIGNALS
from corral.system import openmp_files
from corral.system.optouts import opt_outs

#: what children inherit of the supervisor's environment; their settings come by descriptor
INHERITED_VARIABLES = (
    "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "TZ",
    "USER", "VIRTUAL_ENV", "XDG_CACHE_HOME",
)  # fmt: skip

#: every interpreter's, so that names of files are the same bytes in all, whatever the locale
UTF8 = ("-X", "utf8")

#: what the launcher's own interpreter may need to start
_LAUNCHER_VARIABLES = {"LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "PATH"}
_LAUNCH = (sys.executable, *UTF8, "-I", "-S", str(Path(__file__).with_name("launcher.py")))
_TAIL_LINES = 50
_READ_BYTES = 65536


@dataclasses.dataclass(frozen=True, kw_only=True)
class Child:
    """What to start.

    Attributes:
        kind: "worker" or "frontend": what its command line says.
        number: the worker's id or the frontend's cell.
        module: run as ``python -m module NUMBER BOOT_FD``.
        cpus: the affinity mask.
        memory_node: NUMA node its memory is bound to, or None.
        env: the complete environment.
        python: the interpreter; the supervisor's own unless a worker has another environment.
        drop: whether it gives up all capabilities.
        user: uid and gid that it runs as, or None for the supervisor's.
    """

    kind: str
    number: int
    module: str
    cpus: Sequence[int]
    memory_node: int | None
    env: Mapping[str, str]
    python: str = sys.executable
    drop: bool = False
    user: tuple[int, int] | None = None


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that children get."""
    harmless = {name: environ[name] for name in INHERITED_VARIABLES if name in environ}
    return {**harmless, **opt_outs(environ)}


class Process:
    """A running child, as the supervisor holds it.

    Attributes:
        name: "worker 3", for log lines.
        pid: process id.
        pidfd: becomes readable when the process ends; signals through it never hit another.
        control: the supervisor's end of the control socket, non-blocking.
        stderr_fd: the reading end of the child's standard output and error, non-blocking.
    """

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        pidfd: int,
        name: str,
        control: socket.socket,
        stderr_fd: int,
    ) -> None:
        self._popen = popen
        self._partial = b""
        self._tail: collections.deque[bytes] = collections.deque(maxlen=_TAIL_LINES)
        self.name = name
        self.pid = popen.pid
        self.pidfd = pidfd
        self.control = control
        self.stderr_fd = stderr_fd

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; nothing happens when the process has ended. Not for use after ``reap``.

        SIGKILL goes to what it has started, too, which nobody else would end.
        """
        if number == signal.SIGKILL:
            self._kill_group()
        else:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def _kill_group(self) -> None:
        # Until it is reaped, its number is its own, and so is its group's.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def forward_stderr(self) -> bool:
        """Passes on what the child wrote, in whole lines; False when there is nothing to read."""
        try:
            data = os.read(self.stderr_fd, _READ_BYTES)
        except BlockingIOError:
            return False
        text, newline, self._partial = (self._partial + data).rpartition(b"\n")
        text += newline
        if self._partial and (not data or len(self._partial) >= _READ_BYTES):
            text, self._partial = text + self._partial + b"\n", b""
        if text:
            self._tail.extend(line for line in text.splitlines() if line.strip())
            _write_stderr(text)
        return bool(data)

    def last_error_line(self) -> str:
        """The last line that speaks of an error, else the last line, else nothing.

        What dies in C, or before Python is up, ends with a stack that says less.
        """
        lines = [line.decode(errors="replace").strip() for line in self._tail]
        errors = [line for line in lines if "error" in line.lower()]
        return (errors or lines or [""])[-1]

    def killed(self, within_s: float) -> bool:
        """Whether it ends within so many seconds, of a SIGKILL. Not for use after ``reap``."""
        if not select.select([self.pidfd], [], [], within_s)[0]:
            return False
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        return found is not None and (found.si_code, found.si_status) == (
            os.CLD_KILLED,
            signal.SIGKILL,
        )

    def reap(self) -> int:
        """Collects the ended process and closes every descriptor; returns its return code.

        What it has started and left behind, a compiler perhaps, ends with it.
        """
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self._kill_group()
        code = self._popen.wait()
        openmp_files.remove(self.pid)
        while self.forward_stderr():
            pass
        self.control.close()
        os.close(self.stderr_fd)
        os.close(self.pidfd)
        return code


def spawn(
    child: Child, boot: msgspec.Struct, control: socket.socket, fds: Sequence[int]
) -> Process:
    """Starts a child through the launcher. Call it from the main thread.

    Args:
        child: what to start.
        boot: its boot file; names descriptors by the numbers they have here.
        control: our end of its control socket; belongs to the Process from now on.
        fds: descriptors the child gets, under the same numbers; the caller closes its own.

    Raises:
        OSError: no process, memory or descriptor to be had; nothing is left open but what the
            caller owns, ``control`` included.
    """
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as undo:
        boot_fd = memory_file("boot", msgspec.json.encode(boot))
        stack.callback(os.close, boot_fd)
        number = str(child.number)
        launch = {
            "parent": os.getpid(),
            "argv": [child.python, *UTF8, "-P", "-m", child.module, number, str(boot_fd)],
            "env": dict(child.env),
            "cpus": list(child.cpus),
            "memory_node": child.memory_node,
            "drop": child.drop,
            "user": child.user,
            "warnings_variable": WARNINGS_VARIABLE,
        }
        # Not msgspec's: the bytes of an environment need not be UTF-8, and this keeps them.
        launch_fd = memory_file("launch", json.dumps(launch).encode())
        stack.callback(os.close, launch_fd)
        stderr_read, stderr_write = os.pipe()
        stack.callback(os.close, stderr_write)
        undo.callback(os.close, stderr_read)
        os.set_blocking(stderr_read, False)
        with _signals_blocked():
            popen = subprocess.Popen(
                [*_LAUNCH, child.kind, number, str(launch_fd)],
                stdin=subprocess.DEVNULL,
                stdout=stderr_write,
                stderr=stderr_write,
                env={k: v for k, v in child.env.items() if k in _LAUNCHER_VARIABLES},
                pass_fds=(launch_fd, boot_fd, *fds),
                process_group=0,
            )
        undo.callback(popen.wait)
        undo.callback(popen.kill)
        pidfd = os.pidfd_open(popen.pid)
        undo.pop_all()
    control.setblocking(False)
    return Process(popen, pidfd, f"{child.kind} {number}", control, stderr_read)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Keeps what children ignore from a child that is too young to have said so.

    A child inherits what is blocked; the launcher ignores it and unblocks it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def memory_file(name: str, content: bytes) -> int:
    """An anonymous file with that content, to be read from its start."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    return fd


def describe_end(code: int) -> str:
    """``exited with code 3`` or ``was killed by SIGKILL``, from a return code."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _write_stderr(data: bytes) -> None:
    """Writes to our standard error; a terminal that is gone costs the lines, not the server."""
    view = memoryview(data)
    with contextlib.suppress(OSError):
        while view:
            view = view[os.write(2, view) :]
