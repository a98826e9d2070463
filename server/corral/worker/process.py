"""The worker process: ``python -m corral.worker.process ID BOOT_FD``.

It waits for a batch, runs it and says so.

It serves nothing else and has no timer and no other thread of its own, so that its cores do
nothing but inference and it costs nothing while it waits.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator

import msgspec

from corral import extras, logs
from corral.backends import registry
from corral.backends.base import Backend
from corral.backends.thrown import explain
from corral.batching.cost_curve import SEARCHES
from corral.errors import ConfigError, CorralError, ModelError, PassingError, ValuesRefused
from corral.ipc import channel
from corral.ipc.messages import WARNINGS_VARIABLE, WorkerBoot, WorkerFailed, WorkerReady
from corral.ipc.packets import BATCH, MOST_REASON_BYTES, RESULT, ResultStatus
from corral.ipc.region import Region
from corral.security import sandbox
from corral.system import openmp_files
from corral.system.limits import PASSING, start_refusal
from corral.system.other_load import LoadWatch
from corral.tensors import Datatype
from corral.worker import checks
from corral.worker.warmup import Order, WarmedUp, warm_up

logger = logging.getLogger(__name__)


def get_ready(boot: WorkerBoot, launch_warnings: list[str]) -> tuple[Backend, WorkerReady]:
    """Loads and warms up the engine, and looks at what took hold.

    Args:
        boot: the boot file; its region is mapped for good and its descriptor closed.
        launch_warnings: what the launcher was refused.

    Raises:
        ModelError, ConfigError: this can never work.
    """
    signature = boot.signature
    region = Region(boot.region_fd, signature, boot.region_batch)
    os.close(boot.region_fd)
    try:
        backend = registry.create(boot.settings.engine.backend)
        with _in_one_line(boot):
            backend.load(boot)
    except ModuleNotFoundError as error:
        name = boot.settings.engine.backend.value
        raise ConfigError(
            f"--backend {name}: the Python package {error.name!r} is not installed; "
            f"{extras.install(name)} brings it"
        ) from None
    order = Order(
        datatypes=signature.datatypes if boot.only is None else (boot.only,),
        sizes=boot.sizes,
        search=SEARCHES[boot.settings.model.mode] if boot.find_knee else None,
        known_s=boot.known_s,
        measured=boot.only is None,
        exact=boot.model.precision == "fp32",
        probed=registry.ENGINES[boot.settings.engine.backend].computes,
        fixed_batch=boot.model.fixed_batch,
        others=LoadWatch(boot.cpus).share,
    )
    with _in_one_line(boot):
        warmed = warm_up(backend, region, order)
    # What is there now stays for good. Without reference cycles in the loop below, a collection
    # would find nothing and cost a request its time.
    gc.collect()
    gc.freeze()
    gc.disable()
    found = checks.look(boot.cpus, boot.expected_libraries)
    return backend, WorkerReady(
        worker=boot.worker,
        costs_s=warmed.costs_s,
        sizes=warmed.sizes,
        memory_bytes=found.memory_bytes,
        engine=backend.describe(),
        checks=found.checks,
        warnings=[*launch_warnings, *found.warnings, *_limits(boot, warmed)],
        findings=warmed.findings,
        other_load=warmed.other_load,
    )


@contextlib.contextmanager
def _in_one_line(boot: WorkerBoot) -> Iterator[None]:
    """Turns what an engine throws into a ModelError: another start would end in the same."""
    try:
        yield
    # A disk or a package may be there the next time; the others say what they are.
    except (CorralError, MemoryError, OSError, ImportError):
        raise
    # An engine raises what it likes.
    except Exception as error:
        name = boot.settings.engine.backend
        logger.debug("the engine's own words", exc_info=True)
        raise ModelError(f"--backend {name}: {explain(error, name)}") from error


def _limits(boot: WorkerBoot, warmed: WarmedUp) -> list[str]:
    """What people are told of a model that limits its batches, or does not repeat its answers."""
    name, found = boot.model.name, warmed.findings
    told = []
    if found.batch_limit:
        told.append(f"{name} runs in batches of {warmed.sizes[-1]} at most: {found.batch_limit}")
    if found.unsteady:
        told.append(f"{name}: {found.unsteady}")
    return told


def serve(data: socket.socket, backend: Backend) -> None:
    """Runs batches until the frontend, or whoever holds the other end, goes away.

    An engine's exception is a failed batch, or a refused one where it says what is wrong with the
    values; what is no fault of the batch (MemoryError) ends the process, and the batch is run
    elsewhere.
    """
    request = bytearray(BATCH.size)
    datatypes = {datatype.value: datatype for datatype in Datatype}
    # The clock that the frontend reads, too: it sees how long the batch took to get here.
    clock_ns = time.monotonic_ns
    while _receive(data, request):
        number, datatype, count = BATCH.unpack(request)
        status, reason = ResultStatus.OK, b""
        started_ns = clock_ns()
        try:
            backend.run(datatypes[datatype], count)
        except MemoryError:
            raise
        except ValuesRefused as error:
            # A client can send as many of these as it likes.
            logger.debug("batch %d of %d items is refused: %s", number, count, error)
            status, reason = ResultStatus.REFUSED, str(error).encode()[:MOST_REASON_BYTES]
        # An engine raises what it likes; the batch failed, and the next one may not.
        except Exception:
            logger.exception("batch %d of %d items failed", number, count)
            status = ResultStatus.FAILED
            gc.collect()
        result = RESULT.pack(number, status, clock_ns() - started_ns, started_ns)
        try:
            data.send(result + reason, socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            return


def _receive(data: socket.socket, request: bytearray) -> bool:
    """Waits for a batch; False when there will be none."""
    try:
        return data.recv_into(request) == BATCH.size
    except ConnectionResetError:
        return False


def main() -> int:
    """Entry of the process: argv is the worker's id and its boot file's descriptor.

    Returns:
        the exit code: 0 when the frontend went away, 2 when this can never work.
    """
    faulthandler.enable()
    with os.fdopen(int(sys.argv[2]), "rb") as file:
        boot = msgspec.json.decode(file.read(), type=WorkerBoot)
    logs.configure(boot.settings.logging, f"worker {boot.worker}")
    refused = os.environ.get(WARNINGS_VARIABLE, "").splitlines()
    supervisor = socket.socket(fileno=boot.control_fd)
    data = socket.socket(fileno=boot.data_fd)
    try:
        try:
            backend, report = get_ready(boot, refused)
            # Nobody would, where the supervisor is killed, too.
            openmp_files.remove(os.getpid())
            sandbox.keep_memory_private()
            if boot.settings.security.seccomp:
                sandbox.forbid_calls()
        except (ConfigError, ModelError) as error:
            passing = isinstance(error, PassingError)
            failed = WorkerFailed(worker=boot.worker, message=str(error), passing=passing)
            channel.send(supervisor, failed)
            return error.exit_code
        except OSError as error:
            if error.errno in PASSING:
                raise
            why = f"worker {boot.worker}: {start_refusal(error)}"
            logger.debug("why it cannot start", exc_info=True)
            channel.send(supervisor, WorkerFailed(worker=boot.worker, message=why, passing=True))
            return ConfigError.exit_code
        channel.send(supervisor, report)
    except channel.Closed:
        # The supervisor is stopping, and nobody wants to hear.
        return 0
    serve(data, backend)
    return 0


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # The interpreter's farewell would wait for an engine's threads and free what goes anyway.
    os._exit(code)
