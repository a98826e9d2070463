"""File systems that refuse: a warning and on, or one line (strace injects the refusals)."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.surroundings import Surroundings, injected

_PROBE = [sys.executable, "-m", "support.cache_probe"]
_RENAMES = "rename,renameat,renameat2"

#: a file system is a line: what it refuses, and what is said of it ("" is nothing)
REFUSALS = [
    (injected("no locks", "flock:error=ENOLCK"), "has no locks"),
    (injected("locks unknown", "flock:error=EOPNOTSUPP"), "has no locks"),
    (injected("no modes", "chmod,fchmod,fchmodat:error=EPERM"), "takes no modes"),
    (injected("no modes known", "chmod,fchmod,fchmodat:error=EOPNOTSUPP"), "takes no modes"),
    (injected("no sync", "fsync,fdatasync:error=EINVAL"), "does not sync"),
    (injected("interrupted sync", "fsync:error=EINTR:when=1"), ""),
    (injected("sync that fails", "fsync:error=EIO"), None),
    (injected("renames across", f"{_RENAMES}:error=EXDEV"), "renames no folders"),
    (injected("interrupted calls", "flock,write,ftruncate:error=EINTR:when=1+2"), ""),
]


@pytest.mark.parametrize(("around", "said"), REFUSALS, ids=str)
def test_what_a_file_system_refuses_is_a_warning(
    around: Surroundings, said: str | None, tmp_path: Path
) -> None:
    done = around.run(tmp_path, [*_PROBE, json.dumps([{"CORRAL_CACHE": str(tmp_path / "c")}])])
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    if said is None:
        assert row["artefact"].startswith("refused: the artefact cannot be written below")
        assert "\n" not in row["artefact"]
        assert not list((tmp_path / "c" / "artefacts").glob("[!.]*"))
        return
    assert row["artefact"] == "stored", row
    assert said in row["said"]
    assert "damaged" not in row["said"]
    assert bool(said) is ("WARNING" in row["said"])
    if "rename" not in around.name:
        assert row["curve"] == "cached"


_ASK = (
    "import os, sys; from pathlib import Path; from corral.system import folders; "
    "print(folders.for_programs(folders.program_candidates(os.environ, last=Path(sys.argv[1]))))"
)
_MOUNT = ("--mount", "--propagation", "private")


def _mounted(name: str, options: str, *paths: str) -> Surroundings:
    return Surroundings(
        name, [f"mount -t tmpfs -o {options} none {path}" for path in paths], _MOUNT
    )


#: a machine is a line: its mounts, and where compiled packages are unpacked; None: nowhere
UNPACKED = [
    (_mounted("all is well", "mode=1777", "/var/tmp"), "/tmp"),
    (_mounted("noexec /tmp", "noexec", "/tmp"), "/var/tmp"),
    (_mounted("read-only /tmp", "ro", "/tmp"), "/var/tmp"),
    (_mounted("full /tmp", "size=4k,nr_inodes=1", "/tmp"), "/var/tmp"),
    (_mounted("noexec /tmp and /var/tmp", "noexec", "/tmp", "/var/tmp"), "the cache"),
    (_mounted("all noexec", "noexec", "/tmp", "/var/tmp", "$D", "/dev/shm"), None),
]


@pytest.mark.parametrize(("around", "where"), UNPACKED, ids=str)
def test_programs_are_unpacked_where_they_can_be_loaded(
    around: Surroundings, where: str | None
) -> None:
    around.skip()
    # Not below /tmp, which is covered.
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix=".") as name:
        env = {key: value for key, value in around.environ(Path(name)).items() if key != "TMPDIR"}
        command = around.command(Path(name), [sys.executable, "-c", _ASK, name])
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (name if where == "the cache" else str(where))
