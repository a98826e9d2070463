"""Configurations that may not be: every option with values at the end of what there is.

``cases`` are all of them, from the command line, a file and the environment. ``serves`` starts a
real server with one, and says what came of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from corral.settings import Option, options
from corral_client import Client, CorralClientError
from support.running_server import READY, environment

#: within it a configuration is refused; twice it on a machine that is busy with other tests
REFUSED_WITHIN_S = 5.0
_STARTED_WITHIN_S = 30.0
_PIXELS = np.zeros((1, 224, 224, 3), np.uint8)

NUMBERS = ["0", "-0", "-1", "1", "0.5", "1e-320", "inf", "-inf", "nan", "1e400", "0x10", "1_0"]
NUMBERS += [str(sign * (2**power + more)) for power in (31, 32, 63, 64) for more in (-1, 0)
            for sign in (1, -1)]  # fmt: skip
TEXTS = ["", " ", "\t", "\n", ",", "a,,b", "x" * 5000, "é", "\udcff", "%s", "{models}", "-", "--"]
TEXTS += ["node", "auto", "none", "NaN%", "١٢", "a\nb", "'", '"', "$HOME", "~nobody-at-all/x", "~"]
HOSTS = ["nowhere.invalid", "256.1.1.1", "1.2.3", "::ffff:1.2.3.4", "[", "[]", "*", "a" * 64, "-h"]
HOSTS += ["127.0.0.1:80", "http://127.0.0.1", "192.0.2.1", "fe80::1", "fe80::1%nowhere", "0"]
#: of files, below a folder that ``write_files`` has filled
FILES = ["$D/nothing", "$D/folder", "$D/fifo", "$D/empty", "$D/binary", "$D/loop", "$D/empty/below"]
FILES += ["/dev/zero", "/dev/null", "/dev/full", "/proc/self/mem", "/", ".", "..", "$D/secret.sock"]
#: TOML's own values, as they stand in a file
LITERALS = ["true", "false", "[]", '[""]', '["a", ""]', "[1]", "{}", "{a = 1}", "2026-11-26", "1.5"]
LITERALS += ["nan", "-inf", '"\\u0000"', '"a\\u0000b"', "[[]]", "0x10", "07:30:00", '"""\n"""']
VARIABLES = (
    "CORRAL_CACHE",
    "CORRAL_OFFLINE",
    "HOME",
    "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR",
    "TMPDIR",
)


@dataclasses.dataclass(frozen=True)
class Case:
    """One option, set in one way.

    Attributes:
        source: "command line", "file" or "environment".
        name: of the option, or the variable.
        value: as it is written there; ``$D`` is the folder of ``write_files``.
    """

    source: str
    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.source} {self.name}={self.value[:40]!r}"

    def arguments(self, folder: Path) -> list[str]:
        """What stands on the command line; the settings file is written below the folder."""
        value = self.value.replace("$D", str(folder))
        if self.source == "command line":
            return [f"--{self.name}={value}"]
        if self.source == "file":
            file = folder / "corral.toml"
            file.write_text(f"{self.name} = {value}\n", "utf-8", "surrogateescape")
            return ["--config", str(file)]
        return []

    def variables(self, folder: Path) -> dict[str, str]:
        """What stands in the environment."""
        if self.source != "environment":
            return {}
        return {self.name: self.value.replace("$D", str(folder))}


def write_files(folder: Path) -> None:
    """Files that are none: a pipe, a link to itself, and the like."""
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    (folder / "empty").touch(0o600)
    (folder / "binary").write_bytes(bytes(range(256)) * 16)
    (folder / "binary").chmod(0o600)
    (folder / "loop").symlink_to(folder / "loop")


def values(option: Option) -> list[str]:
    """An option's extremes as text."""
    if option.kind is bool:
        return []
    found = [*TEXTS, *NUMBERS]
    if option.path:
        found += FILES
    if option.name.endswith("host") or option.kind in {str, tuple}:
        found += HOSTS
    if option.least is not None and option.most is not None:
        found += [repr(option.kind(option.least)), repr(option.kind(option.most))]
    return list(dict.fromkeys(found))


def cases() -> list[Case]:
    """All of them."""
    found = []
    for option in options().values():
        for value in values(option):
            found.append(Case("command line", option.name, value))
            found.append(Case("file", option.name, _toml(value)))
            if option.kind in {int, float}:
                found.append(Case("file", option.name, value))
        found += [Case("file", option.name, literal) for literal in LITERALS]
    for name in VARIABLES:
        # A variable without a value is none; a NUL is in none.
        found += [Case("environment", name, value) for value in [*TEXTS, *NUMBERS, *FILES]]
    return list(dict.fromkeys(found))


def _toml(text: str) -> str:
    # JSON's strings are TOML's, but for the halves of pairs, which are bytes that are no UTF-8.
    return json.dumps(text, ensure_ascii=False)


#: what these ask for takes longer than any test: a server that waits has understood them
WAITS = {
    *("null-batch-ms", "null-item-ms", "max-queue-delay-ms", "queue-timeout-ms", "drain-delay-s"),
    *("max-connection-age-s", "max-connection-idle-s", "boot-timeout-s", "hang-floor-s"),
    *("max-message-bytes", "max-requests"),
}
#: one of everything may be more than a machine has
_ALSO_SMALL = ("--oversubscribe",)


@contextlib.contextmanager
def _started(case: Case, folder: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    said = folder / f"said-{time.monotonic_ns()}"
    ports = ["--port=0", "--http-port=0", "--metrics-port=0", "--workers=1"]
    given = [word for word in ports if not word.startswith(f"--{case.name}=")]
    if case.source == "file":
        # The command line would win over the file.
        given = [word for word in ports if word.split("=")[0] != f"--{case.name}"]
    command = [sys.executable, "-m", "corral", "serve", *_ALSO_SMALL, *given]
    if case.name != "backend":
        command.append("--backend=null")
    env: Mapping[str, str] = {**environment(), "CORRAL_CACHE": str(folder / "cache")}
    with said.open("wb") as file:
        started = subprocess.Popen(
            [*command, *case.arguments(folder)], env={**env, **case.variables(folder)},
            cwd=folder, stderr=file, stdout=file, stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip
    try:
        yield started, said
    finally:
        if started.poll() is None:
            started.kill()
        started.wait()
        said.unlink()


def serves(case: Case, folder: Path, busy_s: float = 0.0) -> str:
    """What came of a configuration: "served", "refused" or "waits"; AssertionError for all else."""
    began_s = time.monotonic()
    with _started(case, folder) as (server, said):
        while server.poll() is None and not (ready := _ready(said)):
            assert time.monotonic() < began_s + _STARTED_WITHIN_S + busy_s, _told(case, said)
            if case.name in WAITS and time.monotonic() > began_s + REFUSED_WITHIN_S + busy_s:
                return _ends(case, server, said, "waits")
            time.sleep(0.02)
        if server.poll() is not None:
            assert time.monotonic() < began_s + REFUSED_WITHIN_S + busy_s, _told(case, said)
            if case.name == "boot-timeout-s" and server.returncode == 1:
                return "waits"
            assert server.returncode == 2, _told(case, said)
            lines = said.read_text("utf-8", "replace").strip().splitlines()
            assert len(lines) == 1, _told(case, said)
            assert lines[0].startswith("corral"), _told(case, said)
            return "refused"
        assert ready
        try:
            _ask(ready)
        except CorralClientError as error:
            if case.name not in WAITS:
                raise AssertionError(f"{_told(case, said)}: {error}") from error
        return _ends(case, server, said, "served")


def _ready(said: Path) -> int:
    found = READY.search(said.read_text("utf-8", "replace"))
    return int(found[1]) if found else 0


def _ask(port: int) -> None:
    with Client(f"127.0.0.1:{port}", model="resnet50", deadline_s=10) as client:
        assert np.asarray(client.infer(_PIXELS)).shape == (1, 1000)


def _ends(case: Case, server: subprocess.Popen[str], said: Path, outcome: str) -> str:
    server.terminate()
    if case.name in WAITS or case.name == "grace-s":
        server.terminate()
        server.wait(30)
    else:
        assert server.wait(30) == 0, _told(case, said)
    assert "Traceback" not in said.read_text("utf-8", "replace"), _told(case, said)
    return outcome


def _told(case: Case, said: Path) -> str:
    return f"{case}: {said.read_text('utf-8', 'replace')[-2000:]}"
