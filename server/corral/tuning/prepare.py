"""Preparing a model, with a progress bar: in this process, or in one of its own.

The supervisor imports no framework, so it has the artefact made by a child:
``python -m corral.tuning.prepare_entry ORDER_FD``, whose only output is what was selected, as JSON.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from corral import logs
from corral.artifacts import build
from corral.artifacts.served_model import boot_model
from corral.errors import CorralError, ModelError, one_line
from corral.ipc.messages import ModelBoot
from corral.launch.region_memory import check_regions
from corral.launch.spawn import UTF8, describe_end, memory_file
from corral.launch.worker_runtime import python_path, worker_python
from corral.models import registry
from corral.models.asking import Reply, answered, know
from corral.planning import topology
from corral.planning.plan import PlannedWorker
from corral.settings import Settings
from corral.system import folders
from corral.system.limits import killed_for_memory, start_refusal
from corral.system.optouts import opt_outs
from corral.system.progress_bar import progress_bar
from corral.tuning.curves import learn_curves
from corral.tuning.select import Selected, select
from corral.tuning.widths import learn_one_core

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


class PrepareOrder(msgspec.Struct, frozen=True):
    """What the child is told; without a pen it makes the artefact, and nobody guards it."""

    settings: Settings
    pen: PlannedWorker | None
    again: bool = False
    every: bool = False
    #: also what a start measures while its workers warm up
    curves: bool = False
    #: what engines said of the model's file already
    described: dict[str, Reply] = msgspec.field(default_factory=answered)
    #: whoever waits for the answer
    parent: int = msgspec.field(default_factory=os.getpid)


def prepare_here(
    settings: Settings,
    pen: PlannedWorker,
    environ: Mapping[str, str],
    *,
    again: bool = False,
    every: bool = False,
) -> Selected:
    """Settles engine and precision, and makes the artefact or finds it in the cache.

    The progress bar goes to standard error.

    Args:
        settings: of the server.
        pen: what a worker gets: candidates are tried there.
        environ: this process's environment.
        again, every: see selection.select.

    Raises:
        ConfigError: no such model, or the CPU lacks the precision.
        ModelError: weights, frameworks or disk do not allow it.
    """
    signature = registry.get(settings.model.name, settings.model.shape).signature
    check_regions(settings.model.name, signature, 1, None)
    name = settings.model.name
    with progress_bar(f"preparing {name}") as bar:
        progress = bar or _log_phases(name)
        return select(settings, pen, environ, progress, again=again, every=every, apart=make_apart)


def _log_phases(model: str) -> build.Progress:
    """Where a bar cannot move, every phase is a log line.

    Looking for weights is none yet, and what was there already was not prepared.
    """
    seen: set[str] = set()

    def progress(phase: str, share: float) -> None:
        is_news = seen if phase == build.READY else not phase.endswith(build.FIND_WEIGHTS)
        if phase not in seen and is_news:
            seen.add(phase)
            logger.info("preparing %s: %s (%.0f %%)", model, phase, share * 100)

    return progress


def prepare_apart(
    settings: Settings,
    pen: PlannedWorker,
    *,
    again: bool = False,
    every: bool = False,
    curves: bool = False,
) -> Selected:
    """The same in a process of its own; with ``curves``, also what a start measures otherwise.

    Raises:
        ModelError: it could not be made; the child has said why.
    """
    with _start_child(PrepareOrder(settings, pen, again, every, curves)) as child:
        try:
            output, _ = child.communicate()
        # Ctrl-C or a cancelled task, too, must not leave the child behind.
        except BaseException:
            child.kill()
            raise
    return _selected(child, output)


def make_apart(settings: Settings) -> ModelBoot:
    """The artefact of a backend and a precision that were named, made in a process of its own.

    It runs on the interpreter of the workers, where an engine may be that is not installed here.
    Nothing is searched for, compared or shown.

    Raises:
        ConfigError: no such interpreter.
        ModelError: it could not be made, with what the child said.
    """
    with _start_child(PrepareOrder(settings, None)) as child:
        try:
            output, _ = child.communicate()
        # Ctrl-C or a cancelled task, too, must not leave the child behind.
        except BaseException:
            child.kill()
            raise
    return _selected(child, output).model


async def prepare_beside(settings: Settings, pen: PlannedWorker) -> Selected:
    """The same while an event loop goes on; the child dies if the task is cancelled.

    Raises:
        ModelError: it could not be made; the child has said why.
    """
    # Started from the loop's own thread: the child's death signal is bound to its parent thread.
    with _start_child(PrepareOrder(settings, pen, again=False, every=False)) as child:
        try:
            output, _ = await asyncio.to_thread(child.communicate)
        # Ctrl-C or a cancelled task, too, must not leave the child behind.
        except BaseException:
            child.kill()
            raise
    return _selected(child, output)


def _start_child(order: PrepareOrder) -> subprocess.Popen[bytes]:
    settings = order.settings
    fd = memory_file("order", msgspec.json.encode(order))
    python = worker_python(settings.engine)
    command = [python, *UTF8, "-P", "-m", "corral.tuning.prepare_entry", str(fd)]
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, pass_fds=(fd,),
            process_group=0,
            env={**os.environ, **opt_outs(os.environ), **python_path(settings.engine)},
        )  # fmt: skip
    except BlockingIOError as error:
        raise ModelError(f"no process to prepare the model: {start_refusal(error)}") from None
    finally:
        os.close(fd)


def _selected(child: subprocess.Popen[bytes], output: bytes) -> Selected:
    if child.returncode == 0:
        return msgspec.json.decode(output, type=Selected)
    said = output.decode(errors="replace").strip()
    if not said and child.returncode == -signal.SIGKILL:
        said = f"preparing the model was killed, {killed_for_memory()}"
    raise ModelError(said or f"preparing the model {describe_end(child.returncode)}")


def main() -> None:
    """Entry of the child: prints what was selected, or one line and a non-zero exit code."""
    # Nothing is left behind when the parent dies, whatever it dies of.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        order = msgspec.json.decode(file.read(), type=PrepareOrder)
    know(order.described)
    # A parent that died before the signal was asked for sends none any more.
    if os.getppid() != order.parent:
        sys.exit("whoever wanted the model is gone")
    logs.configure(order.settings.logging, "prepare")
    cache = Path(order.settings.model.cache_dir)
    os.environ.update(folders.settle_temporary(os.environ, cache.absolute() / "temporary"))
    try:
        selected = _obey(order)
    except CorralError as error:
        print(one_line(error))
        sys.exit(error.exit_code)
    sys.stdout.buffer.write(msgspec.json.encode(selected))


def _obey(order: PrepareOrder) -> Selected:
    settings, pen = order.settings, order.pen
    if pen is not None:
        selected = prepare_here(settings, pen, os.environ, again=order.again, every=order.every)
        machine = topology.read_machine()
        cpu_model = machine.model_name
        learn_one_core(settings, pen, selected, os.environ, cpu_model, again=order.again)
        if order.curves:
            learn_curves(settings, pen, selected, os.environ, machine)
        return selected
    made = build.prepare(settings, lambda phase, share: None, topology.read_machine().isa)
    return Selected(
        backend=settings.engine.backend, precision=settings.engine.precision, model=boot_model(made)
    )
