"""Weights behind links are read as the plain files that they are."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from support.matrix_model import write_matrix_model

from corral.artifacts import build
from corral.errors import PassingError
from corral.models.linked_files import as_plain
from corral.settings import BackendName, Settings


def _model(folder: Path) -> tuple[Path, list[Path]]:
    """A model with two files of weights, one in a folder of its own."""
    files = [folder / "model.onnx", folder / "model.onnx_data", folder / "parts" / "w.bin"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(file.name.encode())
    return files[0], files[1:]


def _as_in_a_hub(folder: Path) -> tuple[Path, list[Path]]:
    file, beside = _model(folder / "snapshots" / "abc")
    blobs = folder / "blobs"
    blobs.mkdir()
    for number, path in enumerate((file, *beside)):
        shutil.move(path, blobs / f"{number:064x}")
        path.symlink_to(os.path.relpath(blobs / f"{number:064x}", path.parent))
    return file, beside


def _hard(folder: Path) -> tuple[Path, list[Path]]:
    file, beside = _model(folder)
    os.link(beside[0], folder / "backup")
    return file, beside


def _folder_in_between(folder: Path) -> tuple[Path, list[Path]]:
    file, beside = _model(folder)
    shutil.move(folder / "parts", folder / "elsewhere")
    (folder / "parts").symlink_to("elsewhere")
    return file, beside


@pytest.mark.parametrize("make", [_as_in_a_hub, _hard, _folder_in_between])
def test_links_become_files_for_as_long_as_they_are_read(tmp_path: Path, make: object) -> None:
    file, beside = make(tmp_path / "model")  # type: ignore[operator]
    room = tmp_path / "room"
    room.mkdir()
    with as_plain(file, beside, room) as plain:
        assert plain.name == file.name
        for path in (file, *beside):
            found = plain.parent / path.relative_to(file.parent)
            assert not found.is_symlink()
            assert found.stat().st_nlink == 1
            assert found.read_bytes() == path.read_bytes()
    assert not list(room.iterdir())


def test_plain_files_are_not_copied(tmp_path: Path) -> None:
    file, beside = _model(tmp_path / "model")
    with as_plain(file, beside, tmp_path) as plain:
        assert plain == file
    # The folder itself may be reached through a link.
    (tmp_path / "link").symlink_to("model")
    linked = tmp_path / "link"
    names = [path.relative_to(file.parent) for path in beside]
    with as_plain(linked / file.name, [linked / name for name in names], tmp_path) as plain:
        assert plain == linked / file.name


def test_a_link_to_nowhere_is_an_error(tmp_path: Path) -> None:
    file, beside = _as_in_a_hub(tmp_path)
    beside[0].resolve().unlink()
    with pytest.raises(OSError, match="No such file"), as_plain(file, beside, tmp_path):
        pass


def test_a_copy_that_finds_no_room_may_find_it_another_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(build, "as_plain", full)
    write_matrix_model(tmp_path / "m.onnx")
    settings = Settings.flat(
        model=str(tmp_path / "m.onnx"), backend=BackendName.ONNXRUNTIME, cache_dir=str(tmp_path)
    )
    with pytest.raises(PassingError, match=r"m\.onnx cannot be prepared: .*No space left"):
        build.prepare(settings, lambda step, share: None, frozenset())
