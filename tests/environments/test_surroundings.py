"""Odd machines on which a server serves as on any other: an environment is a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.surroundings import SOMEBODY, Surroundings, folder_for, injected

from corral_client import Client

_MOUNT = ("--mount", "--propagation", "private")
_BECOME = ("setpriv", "--reuid", f"{SOMEBODY}", "--regid", "0", "--clear-groups")
DEAD = "http://127.0.0.1:9"
_PIXELS = np.zeros((1, 224, 224, 3), np.uint8)


def _mounted(name: str, *steps: str, env: dict[str, str | None] | None = None) -> Surroundings:
    return Surroundings(name, steps, _MOUNT, env or {})


def _limited(name: str, *options: str) -> Surroundings:
    """Limits of resources, as a user whom they bind."""
    prefix = (*_BECOME, "prlimit", *options)
    return Surroundings(name, (), _MOUNT, {"HOME": "/"}, prefix, opened=True)


def _locale(name: str, env: dict[str, str | None], *steps: str) -> Surroundings:
    clean: dict[str, str | None] = {"LANG": None, "LC_ALL": None, "LC_CTYPE": None}
    return Surroundings(name, steps, (), {**clean, **env})


_NO_UTF8: dict[str, str | None] = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
_LATIN = "localedef -i de_DE -f ISO-8859-1 $D/de_DE >/dev/null 2>&1"
_NAMES = ("/etc/passwd", "/etc/group", "/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf")
_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")
_BLOCKING = "epoll_wait,epoll_pwait,poll,ppoll,select,pselect6,wait4,waitid,clock_nanosleep,flock"

#: what goes together is one line: a start costs two seconds of a CPU
SURROUNDINGS = [
    # locales and umasks, which nothing should depend on
    _locale("no locale, umask 0", {}, "umask 0"),
    _locale("ASCII, umask 777", {"LC_ALL": "C", **_NO_UTF8}, "umask 777"),
    _locale("Turkish that is not there", {"LC_ALL": "tr_TR.UTF-8", "LANG": "nonsense"}),
    _locale("Latin-1", {"LC_ALL": "de_DE", "LOCPATH": "$D", **_NO_UTF8}, _LATIN),
    Surroundings(
        "variables that are not UTF-8, or lead nowhere",
        env={
            "HOME": "/\udcff", "PATH": "/\udcff", "LD_LIBRARY_PATH": "/\udcff", "TMPDIR": "/\udcff",
            "XDG_RUNTIME_DIR": "/dev/null/nowhere", "http_proxy": DEAD, "ALL_PROXY": DEAD,
        },
    ),
    Surroundings("Python's own variables", env={"PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error"}),
    # mounts
    _mounted(
        "read-only root, nothing temporary",
        "mount -o remount,bind,ro /",
        *(f"mount -t tmpfs -o ro none {path}" for path in _TEMPORARY),
    ),
    _mounted(
        "no /sys, no names, no accounts, no shared memory, all noexec",
        "mount -t tmpfs none /sys",
        *(f"mount --bind /dev/null {path}" for path in _NAMES if Path(path).exists()),
        *(f"mount -t tmpfs -o noexec,nr_inodes=2 none {path}" for path in _TEMPORARY[1:]),
    ),
    # users
    Surroundings("root of a user namespace", (), ("--user", "--map-root-user")),
    Surroundings(
        "a user without a number, a host's name of 64 letters",
        ["hostname " + "x" * 64 + " || true"], ("--uts", "--user"), {"HOME": "/"},
    ),
    # limits, as a user whom they bind
    _limited("endless stack and signals", "--stack=unlimited", "--nice=0", "--cpu=3600"),
    _limited(
        "small limits",
        *("--nofile=64:64", "--nproc=24:24", "--as=1500000000", "--fsize=64000000"),
        *("--memlock=0", "--core=0", "--sigpending=0", "--msgqueue=0", "--stack=524288"),
    ),
    # a kernel that interrupts, or refuses
    injected("interrupted calls", f"{_BLOCKING}:error=EINTR:when=3+5"),
    injected("no limits to be read or set", "prlimit64:error=EPERM"),
    injected(
        "no affinity, no memory policy, no advice",
        "sched_setaffinity,set_mempolicy,mbind:error=EPERM", "madvise:error=EINVAL",
    ),
]  # fmt: skip


def _few(what: str, count: int, word: str) -> tuple[Surroundings, str]:
    return Surroundings(f"{what} {count}", prefix=("prlimit", f"--{what}={count}")), word


#: a machine that lacks what no server can do without, and the word for it
LACKING = [
    (_mounted("no /dev", "mount -t tmpfs none /dev"), "/dev/null"),
    (_mounted("no /proc", "mount -t tmpfs none /proc"), "/proc"),
    (injected("no memfd", "memfd_create:error=ENOSYS"), "memfd_create"),
    (Surroundings("no file of a region's size", prefix=("prlimit", "--fsize=100000")), "ulimit -f"),
    (Surroundings("no file of a page's size", prefix=("prlimit", "--fsize=1000")), "ulimit -f"),
    (injected("no pidfd", "pidfd_open:error=EPERM"), "pidfd_open"),
    (injected("no eventfd", "eventfd2:error=ENOSYS"), "eventfd"),
    (injected("no prctl", "prctl:error=EINVAL"), "prctl(PR_SET_DUMPABLE)"),
    *(
        _few(what, count, "ulimit -n")
        for what, count in (("nofile", 6), ("nofile", 10), ("nofile", 20))
    ),
    *(_few("as", count, "ulimit -v") for count in (18_000_000, 60_000_000, 100_000_000)),
    *(_few("data", count, "ulimit -d") for count in (20_000_000, 50_000_000)),
]


@pytest.mark.parametrize(("around", "word"), LACKING, ids=str)
def test_what_cannot_be_done_without_is_one_line(around: Surroundings, word: str) -> None:
    with folder_for() as folder, around.server(folder, ready=False) as server:
        assert server.wait() == 2
        (line,) = server.lines
        assert word in line


@pytest.mark.parametrize(
    ("limit", "word"),
    [("nofile=24", "ulimit -n"), ("nofile=29", "ulimit -n"), ("as=140000000", "ulimit -v")],
)
def test_a_limit_that_only_the_start_meets_is_its_end(limit: str, word: str) -> None:
    around = Surroundings(limit, prefix=("prlimit", f"--{limit}"))
    with folder_for() as folder, around.server(folder, ready=False) as server:
        assert server.wait() in {1, 2}
        assert server.lines[-1].startswith("corral: ")
        assert word in server.lines[-1]


def test_a_small_soft_limit_of_descriptors_is_raised() -> None:
    around = Surroundings("soft", prefix=("prlimit", "--nofile=20:64"))
    with folder_for() as folder, around.server(folder) as server:
        assert server.stop() == 0


def test_a_handful_of_free_ports_is_enough(tmp_path: Path) -> None:
    ports = "echo 40000 40007 > /proc/sys/net/ipv4/ip_local_port_range"
    around = Surroundings("", ["ip link set lo up", ports], ("--net", "--mount"))
    with around.server(tmp_path) as server:
        assert server.stop() == 0


@pytest.mark.parametrize("around", SURROUNDINGS, ids=str)
def test_a_server_serves(around: Surroundings) -> None:
    with folder_for() as folder, around.server(folder) as server:
        with Client(f"127.0.0.1:{server.port}", model="resnet50", deadline_s=30) as client:
            assert np.asarray(client.infer(_PIXELS)).shape == (1, 1000)
        assert server.stop() == 0
        assert "Traceback" not in server.stderr
