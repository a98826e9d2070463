"""What processes of a running server have, and what they have given up."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import re
import resource
import stat
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import psutil
import pytest
from support.running_server import Server, StartServer, wait_until
from support.scenarios.fault import wait_for_workers

from corral.backends.registry import ENGINES
from corral.errors import ConfigError
from corral.launch import launcher
from corral.launch import worker_user as identity
from corral.security import sandbox
from corral.settings import BackendName, Settings

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root has what is given up here")
SYSTEM_PYTHON = Path("/usr/bin/python3")
CLOSED = [
    str(folder) for folder in Path(__file__).resolve().parents if not folder.stat().st_mode & 0o001
]
CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def status(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def everybody(server: Server) -> list[int]:
    return [server.pid, *server.frontends(), *server.workers()]


def test_workers_have_no_privileges_no_ports_and_only_what_they_were_given(
    server: StartServer,
) -> None:
    with server("--workers", "2") as s:
        # Ready is one worker; while it starts, the other still has its settings open.
        wait_for_workers(s, 2)
        workers = s.workers()
        assert len(workers) == 2
        for pid in workers:
            found = status(pid)
            assert found["NoNewPrivs"] == "1"
            # Without capabilities even root is nobody special, and can become nobody else.
            assert {int(found[name], 16) for name in CAPABILITIES} == {0}
            process = psutil.Process(pid)
            # Two sockets: the supervisor's and the frontend's ends are elsewhere.
            kinds = sorted(descriptors(pid))
            assert kinds.count("socket") == 2, kinds
            assert set(kinds) <= {"/dev/null", "pipe", "socket", "memfd:region"}, kinds
            assert not process.net_connections()
            assert process.environ().keys().isdisjoint({"CORRAL_OFFLINE", "CORRAL_CACHE"})
        for pid in (*workers, *s.frontends()):
            # A worker gives that up last, when it is ready, which it need not be yet.
            wait_until(
                partial(dumps_no_core, pid),
                "no core dumps",
            )
            assert status(pid)["NoNewPrivs"] == "1"
        listening = {c.laddr.port for pid in everybody(s) for c in listeners(pid)}
        assert listening == {s.port, s.http_port, s.metrics_port}


def dumps_no_core(pid: int) -> bool:
    return bool(psutil.Process(pid).rlimit(resource.RLIMIT_CORE) == (0, 0))


def is_filtered(task: Path) -> bool:
    return "Seccomp:\t2" in (task / "status").read_text()


def descriptors(pid: int) -> list[str]:
    """What a process has open, without the numbers in the names."""
    targets = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # It may be closed meanwhile.
        with contextlib.suppress(FileNotFoundError):
            targets.append(str(link.readlink()))
    return [re.sub(r"^/(memfd:)| \(deleted\)$|:\[\d+\]$", r"\1", target) for target in targets]


def listeners(pid: int) -> list[psutil._common.pconn]:
    found = psutil.Process(pid).net_connections("tcp")
    return [c for c in found if c.status == psutil.CONN_LISTEN]


def test_shared_memory_has_no_name(server: StartServer) -> None:
    before = set(Path("/dev/shm").iterdir())
    with server("--workers", "2") as s:
        shared = set()
        for pid in everybody(s):
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                fields = line.split(maxsplit=5)
                if fields[1].startswith("rw") and fields[1].endswith("s"):
                    shared.add(fields[5] if len(fields) > 5 else "")
                assert "/dev/shm" not in line
                assert "/SYSV" not in line
            assert not any("/dev/shm" in target for target in descriptors(pid))
        # The regions and the counters are shared, or this looked at nothing.
        memfds = {name for name in shared if name.startswith("/memfd:")}
        assert {"/memfd:region (deleted)"} < memfds
        assert {name for name in shared - memfds if name.startswith("/")} <= {"/dev/zero (deleted)"}
        assert set(Path("/dev/shm").iterdir()) <= before


def test_a_seccomp_filter_is_in_force_in_every_thread(server: StartServer) -> None:
    pytest.importorskip("pyseccomp")
    with server("--workers", "2", "--seccomp") as s:
        for pid in s.workers():
            for task in Path(f"/proc/{pid}/task").iterdir():
                wait_until(partial(is_filtered, task), "a filter")
        # And whoever has none: the others.
        assert status(s.frontends()[0])["Seccomp"] == "0"
        assert s.stop() == 0


_TRY = """
import ctypes, errno, json, os, socket, subprocess, threading
from corral.security import sandbox
libc = ctypes.CDLL(None, use_errno=True)
before, after, stop = threading.Event(), threading.Event(), threading.Event()
outcome = {}

def attempt(name, act):
    try:
        act()
    except OSError as error:
        outcome[name] = errno.errorcode[error.errno]
    else:
        outcome[name] = "allowed"

def native(function, *arguments):
    def act():
        if function(*arguments) < 0:
            raise OSError(ctypes.get_errno(), "refused")
    return act

def attempts(who):
    attempt(who + " execve", lambda: os.execv("/bin/true", ["true"]))
    attempt(who + " socket", lambda: socket.socket())
    attempt(who + " unix socket", lambda: socket.socket(socket.AF_UNIX))
    attempt(who + " subprocess", lambda: subprocess.run(["/bin/true"]))
    attempt(who + " ptrace", native(libc.ptrace, 16, os.getppid(), 0, 0))
    attempt(who + " mount", native(libc.mount, b"none", b"/mnt", b"tmpfs", 0, None))
    attempt(who + " unshare", native(libc.unshare, 0x10000000))
    attempt(who + " personality", native(libc.personality, 0xffffffff))

def other():
    after.wait()
    attempts("thread")

ours, theirs = socket.socketpair()
old = threading.Thread(target=other)
old.start()
sandbox.keep_memory_private()
sandbox.forbid_calls()
attempts("main")
after.set()
old.join()
# What workers live on still works.
ours.send(b"batch")
outcome["recv"] = theirs.recv(9).decode()
outcome["memory"] = len(bytearray(50_000_000))
new = threading.Thread(target=lambda: outcome.update(thread="started"))
new.start()
new.join()
outcome["file"] = open("/proc/self/stat").read() != ""
outcome["dumpable"] = libc.prctl(3, 0, 0, 0, 0)
print(json.dumps(outcome))
"""


def test_the_filter_forbids_what_it_says_and_nothing_that_workers_need() -> None:
    pytest.importorskip("pyseccomp")
    done = subprocess.run(
        [sys.executable, "-c", _TRY], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    calls = ("execve", "socket", "unix socket", "subprocess", "ptrace", "mount", "unshare")
    for who in ("main", "thread"):
        for call in (*calls, "personality"):
            assert outcome.pop(f"{who} {call}") == "EPERM", (who, call)
    assert outcome == {
        "recv": "batch", "memory": 50_000_000, "thread": "started", "file": True, "dumpable": 0,
    }  # fmt: skip


def test_without_the_package_the_option_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyseccomp", None)
    with pytest.raises(ConfigError, match=r"pip install .*\[hardening\]"):
        sandbox.require_seccomp()


def launch(user: tuple[int, int] | None, *, drop: bool = True, program: str = "/bin/cat") -> str:
    """The status of a process that the launcher became."""
    order = {
        "parent": os.getpid(),
        "argv": [program, "/proc/self/status"],
        "env": {},
        "cpus": [],
        "memory_node": None,
        "drop": drop,
        "user": user,
        "warnings_variable": "REFUSED",
    }
    fd = os.memfd_create("launch")
    os.write(fd, json.dumps(order).encode())
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        done = subprocess.run(
            ["/usr/bin/env", sys.executable, "-I", "-S", launcher.__file__, "worker", "0", str(fd)],
            pass_fds=(fd,),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        os.close(fd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@ROOT_ONLY
def test_the_launcher_becomes_the_user_it_is_told_to() -> None:
    nobody = identity.find_user("nobody")
    found = launch((nobody.uid, nobody.gid))
    assert f"Uid:\t{nobody.uid}\t{nobody.uid}\t{nobody.uid}\t{nobody.uid}\n" in found
    assert f"Gid:\t{nobody.gid}\t{nobody.gid}\t{nobody.gid}\t{nobody.gid}\n" in found
    assert re.search(r"^Groups:\s*$", found, re.MULTILINE)
    assert "CapBnd:\t0000000000000000" in found
    assert "NoNewPrivs:\t1" in found


@ROOT_ONLY
def test_the_death_signal_outlives_the_change_of_user(tmp_path: Path) -> None:
    nobody = identity.find_user("nobody")
    # The kernel tells its own death signal only to the process itself, so a system Python asks.
    python = Path("/usr/bin/python3")
    if not python.exists():
        pytest.skip("no interpreter that everybody may run")
    script = tmp_path / "ask.py"
    script.write_text(
        "import ctypes\nn = ctypes.c_int()\n"
        "ctypes.CDLL(None).prctl(2, ctypes.byref(n), 0, 0, 0)\nprint(n.value)\n"
    )
    order = {
        "parent": os.getpid(),
        "argv": [str(python), "-c", script.read_text()],
        "env": {},
        "cpus": [],
        "memory_node": None,
        "drop": True,
        "user": (nobody.uid, nobody.gid),
        "warnings_variable": "REFUSED",
    }
    fd = os.memfd_create("launch")
    os.write(fd, json.dumps(order).encode())
    os.lseek(fd, 0, os.SEEK_SET)
    command = [sys.executable, "-I", "-S", launcher.__file__, "worker", "0", str(fd)]
    done = subprocess.run(command, pass_fds=(fd,), capture_output=True, text=True, check=False)
    os.close(fd)
    assert done.stdout.strip() == "9", done.stderr


@ROOT_ONLY
def test_capabilities_stay_where_the_server_could_not_be_read_without(tmp_path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert launcher.readable_without_capabilities(libc, "/bin/cat")
    closed = tmp_path / "program"
    closed.write_text("")
    closed.chmod(0o500)
    os.chown(closed, 65534, 65534)
    assert not launcher.readable_without_capabilities(libc, str(closed))
    # Looking has taken nothing away.
    assert int(status(os.getpid())["CapEff"], 16) != 0


@ROOT_ONLY
def test_a_user_who_cannot_read_what_workers_need_is_refused(tmp_path: Path) -> None:
    nobody = identity.find_user("nobody")
    secret = tmp_path / "artefact.xml"
    secret.write_text("")
    secret.chmod(0o600)
    with pytest.raises(ConfigError, match=r"--worker-user nobody: cannot (read|run) .") as caught:
        identity.check_readable(nobody, [secret])
    assert "\n" not in str(caught.value)


@ROOT_ONLY
@pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason="no interpreter that everybody can run")
@pytest.mark.skipif(bool(CLOSED), reason=f"the checkout is closed to other users: {CLOSED}")
def test_another_user_must_read_the_model_and_gets_a_folder_for_compiled_code() -> None:
    # Not tmp_path, which is its owner's alone.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        model = folder / "model.pt"
        model.write_text("")
        settings = Settings.flat(
            backend=BackendName.TORCH, worker_user="nobody", cache_dir=str(folder / "cache")
        )
        user = identity.worker_user(settings, str(model), str(SYSTEM_PYTHON))
        assert user
        lent = (folder / "cache" / "inductor-nobody").stat()
        assert (lent.st_uid, stat.S_IMODE(lent.st_mode)) == (user.uid, 0o700)
        model.chmod(0o600)
        with pytest.raises(ConfigError, match=r"cannot read .*model\.pt"):
            identity.worker_user(settings, str(model), str(SYSTEM_PYTHON))


@ROOT_ONLY
@pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason="no interpreter that everybody can run")
@pytest.mark.skipif(bool(CLOSED), reason=f"the checkout is closed to other users: {CLOSED}")
@pytest.mark.parametrize("needs_code", [False, True])
def test_a_folder_that_cannot_be_lent_matters_where_its_code_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs_code: bool
) -> None:
    # An engine on OpenMP need not be one that compiles for minutes, nor the other way round.
    row = dataclasses.replace(ENGINES[BackendName.TORCH], needs_code=needs_code)
    row = dataclasses.replace(row, obeys_openmp=not needs_code)
    monkeypatch.setattr(identity, "engine", lambda name: row)
    (tmp_path / "cache").write_text("")
    settings = Settings.flat(
        backend=BackendName.TORCH, worker_user="nobody", cache_dir=str(tmp_path / "cache")
    )
    refused = pytest.raises(ConfigError, match="inductor-nobody: Not a directory")
    with refused if needs_code else contextlib.nullcontext():
        assert identity.worker_user(settings, None, str(SYSTEM_PYTHON))


@ROOT_ONLY
def test_root_is_no_user_to_switch_to() -> None:
    with pytest.raises(ConfigError, match="that is root"):
        identity.find_user("root")
