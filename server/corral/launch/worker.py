"""Starts a worker: its region, its two sockets and its process, for the server and for trials.

What goes wrong on the way is undone here, and nowhere else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import sys
from collections.abc import Mapping

import msgspec

from corral.ipc import channel
from corral.ipc.messages import ModelBoot, WorkerBoot
from corral.ipc.region import create_region
from corral.launch import worker_user
from corral.launch.spawn import Child, Process, inherited, spawn
from corral.launch.worker_runtime import WorkerExtras, python_path, worker_python
from corral.launch.worker_user import User
from corral.settings import Settings

_MODULE = "corral.worker.process"


@dataclasses.dataclass(frozen=True)
class StartedWorker:
    """A worker that runs, and the other ends of what it has.

    Attributes:
        process: the process, with the control socket.
        data: the feeding end of its data socket.
        region_fd: its region.
    """

    process: Process
    data: socket.socket
    region_fd: int

    def close_feed(self) -> None:
        """Closes data socket and region: somebody else has them, or nobody needs them."""
        self.data.close()
        os.close(self.region_fd)

    def abandon(self) -> None:
        """Kills the process and closes everything."""
        self.process.signal(signal.SIGKILL)
        self.process.reap()
        self.close_feed()


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerLaunch:
    """One worker to start.

    Attributes:
        boot: its boot file, but for the descriptors.
        env: its complete environment.
        memory_node: NUMA node its memory is bound to, or None.
        python: the interpreter that it runs on.
        user: uid and gid that it runs as, or None for the supervisor's.
        module: what runs: the worker's, or another that takes the same boot file.
    """

    boot: WorkerBoot
    env: Mapping[str, str]
    memory_node: int | None = None
    python: str = sys.executable
    user: tuple[int, int] | None = None
    module: str = _MODULE

    def start(self) -> StartedWorker:
        """Starts it. Call it from the main thread: the worker dies with the thread.

        Raises:
            OSError: no process, memory or descriptor to be had; nothing stays open.
        """
        boot = self.boot
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as theirs:
            region_fd = create_region(boot.signature, boot.region_batch)
            undo.callback(os.close, region_fd)
            data, data_end = channel.pair()
            undo.callback(data.close)
            # Our copies of its ends are closed in any case: its death must be an end of file.
            theirs.callback(data_end.close)
            control, control_end = channel.pair()
            undo.callback(control.close)
            theirs.callback(control_end.close)
            fds = {
                "control_fd": control_end.fileno(),
                "data_fd": data_end.fileno(),
                "region_fd": region_fd,
            }
            child = Child(
                kind="worker",
                number=boot.worker,
                module=self.module,
                cpus=boot.cpus,
                memory_node=self.memory_node,
                env=self.env,
                python=self.python,
                drop=True,
                user=self.user,
            )
            filled = msgspec.structs.replace(boot, **fds)
            process = spawn(child, filled, control, list(fds.values()))
            undo.pop_all()
        return StartedWorker(process, data, region_fd)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerProgram:
    """What the workers of one model have in common: interpreter, user and environment.

    Attributes:
        python: the interpreter.
        user: whom they run as; None: the supervisor's own user.
        env: their environment, but for what the CPUs of each add.
        extras_env: what the allocator and the user add, which goes before all else.
    """

    python: str
    user: User | None
    env: Mapping[str, str]
    extras_env: Mapping[str, str]

    @classmethod
    def find(
        cls,
        settings: Settings,
        model: ModelBoot,
        extras: WorkerExtras,
        environ: Mapping[str, str],
    ) -> WorkerProgram:
        """Looks the interpreter and the user up.

        Args:
            settings: of the workers.
            model: as prepared; the user must be able to read it.
            extras: what the allocator adds.
            environ: this process's environment; workers get the harmless part.

        Raises:
            ConfigError: ``settings.worker_user`` is nobody, or cannot read what workers need;
                ``settings.worker_python`` is no interpreter.
        """
        python = worker_python(settings.engine)
        user = worker_user.worker_user(settings, model.artefact, python)
        return cls(
            python=python,
            user=user,
            env=inherited(environ),
            extras_env={**extras.env, **python_path(settings.engine), **worker_user.home(user)},
        )

    def launch(
        self, boot: WorkerBoot, compute: Mapping[str, str], memory_node: int | None
    ) -> WorkerLaunch:
        """A worker to start.

        Args:
            boot: its boot file, but for the descriptors.
            compute: the environment that its CPUs and its engine ask for.
            memory_node: NUMA node its memory is bound to, or None.
        """
        return WorkerLaunch(
            boot=boot,
            env={**self.env, **compute, **self.extras_env},
            memory_node=memory_node,
            python=self.python,
            user=worker_user.ids(self.user),
        )
