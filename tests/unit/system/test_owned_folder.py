"""Temporary folders whose owners were killed are cleared, and no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.system import owned_folder
from corral.system.owned_folder import OwnedFolder, clear

_OWNER = """
import pathlib, signal, sys
from corral.system.owned_folder import OwnedFolder
folder = OwnedFolder("own-", pathlib.Path(sys.argv[1]))
(folder.path / "inner").mkdir()
(folder.path / "inner" / "log").write_text("long")
print(folder.path, flush=True)
signal.pause()
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The folder of a process that was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout
        folder = Path(owner.stdout.readline().strip())
        clear(tmp_path, "own-")
        assert (folder / "inner" / "log").exists()
        owner.send_signal(signal.SIGKILL)
    return folder


def test_it_ends_with_its_context(tmp_path: Path) -> None:
    with OwnedFolder("own-", tmp_path) as folder:
        (folder.path / "file").touch()
        assert folder.path.parent == tmp_path
    assert not list(tmp_path.iterdir())


def test_the_next_one_clears_what_a_killed_owner_left(killed: Path, tmp_path: Path) -> None:
    assert killed.exists()
    with OwnedFolder("own-", tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder.path]


def test_another_prefix_is_left_alone(killed: Path, tmp_path: Path) -> None:
    with OwnedFolder("other-", tmp_path):
        assert (killed / "inner" / "log").exists()


def test_of_two_that_live_none_is_cleared(tmp_path: Path) -> None:
    with OwnedFolder("own-", tmp_path) as one, OwnedFolder("own-", tmp_path) as other:
        clear(tmp_path, "own-")
        assert one.path.exists()
        assert other.path.exists()


def _link(killed: Path, base: Path) -> Path:
    elsewhere = base / "elsewhere"
    killed.rename(elsewhere)
    killed.symlink_to(elsewhere)
    return elsewhere


def _linked_mark(killed: Path, base: Path) -> Path:
    (killed / ".owner").rename(base / "mark")
    (killed / ".owner").symlink_to(base / "mark")
    return killed


def _pipe(killed: Path, base: Path) -> Path:
    (killed / ".owner").unlink()
    os.mkfifo(killed / ".owner")
    return killed


def _of_no_owner(killed: Path, base: Path) -> Path:
    """As versions before made them: their owners hold no lock, and may live."""
    (killed / ".owner").unlink()
    return killed


def _open_to_others(killed: Path, base: Path) -> Path:
    killed.chmod(0o777)
    return killed


@pytest.mark.parametrize("change", [_link, _linked_mark, _pipe, _of_no_owner, _open_to_others])
def test_what_may_be_somebody_elses_stays(
    change: Callable[[Path, Path], Path], killed: Path, tmp_path: Path
) -> None:
    place = change(killed, tmp_path)
    clear(tmp_path, "own-")
    assert (place / "inner" / "log").exists()


def test_another_users_stays(killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    clear(tmp_path, "own-")
    assert (killed / "inner" / "log").exists()


def test_links_inside_are_removed_and_not_followed(killed: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (killed / "inner" / "link").symlink_to(tmp_path / "kept")
    (killed / "link").symlink_to(tmp_path / "kept")
    clear(tmp_path, "own-")
    assert not killed.exists()
    assert (tmp_path / "kept" / "file").exists()


def test_one_that_is_cleared_before_it_is_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = owned_folder._hold
    seen: list[Path] = []

    def too_late(folder: Path) -> int | None:
        seen.append(folder)
        if len(seen) == 1:
            (folder / ".owner").touch()
            clear(tmp_path, "own-")
            assert not folder.exists()
        return hold(folder)

    monkeypatch.setattr(owned_folder, "_hold", too_late)
    with OwnedFolder("own-", tmp_path) as folder:
        assert folder.path == seen[1]
        clear(tmp_path, "own-")
        assert folder.path.exists()
