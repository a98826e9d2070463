"""Odd machines as values: what is done to namespaces, limits and environment before a command runs.

An environment is a line in a table of the tests. What this machine cannot do is skipped, with its
reason.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from support.running_server import Server, environment

ROOT = Path(__file__).parents[2]
CORRAL = (sys.executable, "-m", "corral")
#: a user without a name, as OpenShift makes them
SOMEBODY = 1_000_770_000


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What a command finds around it.

    Attributes:
        name: of the environment, in a test's id.
        steps: lines of shell, run before it in its namespaces; ``$D`` is a folder of the test's.
        namespaces: options of unshare; none: no namespace is made.
        env: changes to the environment; None takes a variable away. ``$D`` is replaced.
        prefix: words before the command: strace, prlimit, setpriv.
        opened: other users reach interpreter and checkout, wherever they lie; needs a mount
            namespace.
    """

    name: str
    steps: Sequence[str] = ()
    namespaces: Sequence[str] = ()
    env: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    prefix: Sequence[str] = ()
    opened: bool = False

    def __str__(self) -> str:
        return self.name

    def skip(self) -> None:
        """Skips the test where this machine cannot do it."""
        if self.namespaces and (reason := no_namespace(tuple(self.namespaces))):
            pytest.skip(reason)
        if hidden := self._hidden():
            pytest.skip(f"the checkout or its interpreter lies below {hidden}, which is covered")
        if self.prefix and shutil.which(self.prefix[0]) is None:
            pytest.skip(f"{self.prefix[0]} is not installed")
        if self.prefix and self.prefix[0] == "strace" and (reason := no_ptrace()):
            pytest.skip(reason)

    def _hidden(self) -> str:
        """The mount point that hides what the command is made of; empty without one."""
        mounts = [step.split() for step in self.steps if step.startswith("mount ")]
        points = {words[-1] for words in mounts if not words[2].startswith("remount")}
        above = {str(folder) for path in _needed() for folder in path.parents}
        return next(iter(points & above), "")

    def command(self, folder: Path, command: Sequence[str]) -> list[str]:
        """The command line that runs a command in these surroundings."""
        enter = ["unshare", *self.namespaces] if self.namespaces else []
        steps = [*(_opening() if self.opened else []), *self.steps]
        script = "\n".join([*steps, 'exec "$@"'])
        shell = ["sh", "-ec", f"D='{folder}'\n{script}", "sh"] if steps else []
        prefix = [word.replace("$D", str(folder)) for word in self.prefix]
        return [*enter, *shell, *prefix, *command]

    def environ(self, folder: Path) -> dict[str, str]:
        """The command's environment."""
        env = environment()
        for name, value in self.env.items():
            env.pop(name, None)
            if value is not None:
                env[name] = value.replace("$D", str(folder))
        return env

    def run(
        self, folder: Path, command: Sequence[str], timeout_s: float = 90.0, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        self.skip()
        return subprocess.run(
            self.command(folder, command), env=self.environ(folder), cwd=cwd, timeout=timeout_s,
            capture_output=True, text=True, errors="backslashreplace", check=False,
        )  # fmt: skip

    @contextlib.contextmanager
    def server(self, folder: Path, *args: str, ready: bool = True) -> Iterator[Server]:
        """A null server with one worker, on free ports; ended at the end."""
        self.skip()
        command = [*CORRAL, "serve", "--backend", "null", "--workers", "1"]
        command += ["--port", "0", "--metrics-port", "0", *args]
        started = Server(self.command(folder, command), self.environ(folder))
        try:
            if ready:
                started.wait_until_ready()
            yield started
        finally:
            started.end()


def injected(name: str, *faults: str) -> Surroundings:
    """System calls that fail, as strace injects them: "flock:error=ENOLCK"."""
    options = [word for fault in faults for word in ("-e", f"inject={fault}")]
    calls = ",".join(fault.partition(":")[0] for fault in faults)
    # -D: the tracer is a grandchild, and the program keeps its number and its signals.
    prefix = ["strace", "-D", "-qq", "-f", "-o", "/dev/null", "-e", f"trace={calls}", *options]
    return Surroundings(name, prefix=prefix)


@functools.cache
def no_namespace(options: tuple[str, ...]) -> str:
    """Why namespaces cannot be made here; empty where they can."""
    try:
        done = subprocess.run(["unshare", *options, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return "unshare is not installed"
    words = done.stderr.decode(errors="replace").strip()
    return "" if done.returncode == 0 else f"no namespaces here: {words}"


@functools.cache
def no_ptrace() -> str:
    """Why nothing can be traced here; empty where it can."""
    done = subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False
    )
    words = done.stderr.decode(errors="replace").strip()
    return "" if done.returncode == 0 else f"nothing can be traced here: {words}"


def _needed() -> list[Path]:
    """What a command of ours is made of: interpreter, its environment, checkout."""
    return [Path(sys.base_prefix).resolve(), Path(sys.prefix), ROOT]


def _opening() -> list[str]:
    """Shell lines that let other users of a mount namespace reach interpreter and checkout.

    A folder on the way that they cannot enter is replaced by an empty one that they can, with the
    way to what is needed, and nothing else, in it.
    """
    needed = _needed()
    on_the_way = {folder for path in needed for folder in (*path.parents, path)}
    closed = sorted(folder for folder in on_the_way if not folder.stat().st_mode & stat.S_IXOTH)
    steps: list[str] = []
    for folder in closed:
        if folder in needed:
            ways = set(folder.iterdir())
        else:
            below = [path.relative_to(folder) for path in needed if folder in path.parents]
            ways = {folder / path.parts[0] for path in below}
        steps += [
            "B=$(mktemp -d)",
            f"mount --rbind '{folder}' $B",
            f"mount -t tmpfs -o mode=755 none '{folder}'",
        ]
        for way in sorted(way for way in ways if way.exists()):
            make = "mkdir" if way.is_dir() else "touch"
            steps += [f"{make} '{way}'", f"mount --rbind \"$B/\"'{way.name}' '{way}'"]
        steps += ["umount -l $B", "rmdir $B"]
    return steps


@contextlib.contextmanager
def folder_for(uid: int | None = None, prefix: str = "corral-") -> Iterator[Path]:
    """A folder with a short path that a user owns, and others can enter: pytest's are neither."""
    with tempfile.TemporaryDirectory(prefix=prefix, dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        if uid is not None:
            os.chown(folder, uid, 0)
        yield folder
