"""File systems that refuse: a warning and on, or one line (strace injects the refusals)."""

from __future__ import annotations

import json
import sys
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
