"""Preparing a model, with a progress bar: in this process, or in one of its own.

The supervisor imports no framework, so it has the artefact made by a child:
``python -m corral.prepare SETTINGS_FD``, whose only output is the artefact as JSON.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import sys

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from corral import logs, optimize, topology
from corral.artefact import Artefact
from corral.config import Settings
from corral.errors import CorralError, ModelError

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


def prepare_here(settings: Settings) -> Artefact:
    """Makes the artefact, or finds it in the cache; the progress bar goes to standard error.

    Raises:
        ConfigError: no such model, or the CPU lacks the precision.
        ModelError: weights, frameworks or disk do not allow it.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn(f"preparing {settings.model} [bold]{{task.description}}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    isa = topology.read_machine().isa
    if not console.is_terminal:
        return optimize.prepare(settings, _log_phases(settings.model), isa)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        return optimize.prepare(
            settings,
            lambda phase, share: bar.update(task, description=phase, completed=share),
            isa,
        )


def _log_phases(model: str) -> optimize.Progress:
    """Where a bar cannot move, every phase is a log line; looking for weights is none yet."""
    seen = {optimize.FIND_WEIGHTS}

    def progress(phase: str, share: float) -> None:
        if phase not in seen:
            seen.add(phase)
            logger.info("preparing %s: %s (%.0f %%)", model, phase, share * 100)

    return progress


def prepare_apart(settings: Settings) -> Artefact:
    """The same in a process of its own.

    Raises:
        ModelError: it could not be made; the child has said why.
    """
    with _start_child(settings) as child:
        try:
            output, _ = child.communicate()
        except BaseException:
            child.kill()
            raise
    return _artefact(child, output)


async def prepare_beside(settings: Settings) -> Artefact:
    """The same while an event loop goes on; the child dies if the task is cancelled.

    Raises:
        ModelError: it could not be made; the child has said why.
    """
    # Started from the loop's own thread: the child's death signal is bound to its parent thread.
    with _start_child(settings) as child:
        try:
            output, _ = await asyncio.to_thread(child.communicate)
        except BaseException:
            child.kill()
            raise
    return _artefact(child, output)


def _start_child(settings: Settings) -> subprocess.Popen[bytes]:
    fd = os.memfd_create("settings", 0)
    os.write(fd, msgspec.json.encode(settings))
    os.lseek(fd, 0, os.SEEK_SET)
    command = [sys.executable, "-P", "-m", "corral.prepare", str(fd)]
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, pass_fds=(fd,),
            process_group=0,
        )  # fmt: skip
    finally:
        os.close(fd)


def _artefact(child: subprocess.Popen[bytes], output: bytes) -> Artefact:
    if child.returncode == 0:
        return msgspec.json.decode(output, type=Artefact, dec_hook=lambda kind, text: kind(text))
    raise ModelError(
        output.decode(errors="replace").strip()
        or f"preparing the model ended with exit code {child.returncode}"
    )


def main() -> None:
    """Entry of the child: prints the artefact as JSON, or one line and a non-zero exit code."""
    # Nothing is left behind when the parent dies, whatever it dies of.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        settings = msgspec.json.decode(file.read(), type=Settings)
    logs.configure(settings, "prepare")
    try:
        artefact = prepare_here(settings)
    except CorralError as error:
        print(error)
        sys.exit(error.exit_code)
    sys.stdout.buffer.write(msgspec.json.encode(artefact, enc_hook=str))


if __name__ == "__main__":
    main()
