"""A file that a user named is read within a time and a size, whatever it turns out to be."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from corral.settings import files
from corral.settings.files import read_file


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x" * 200_000)
    content, found = read_file(file)
    assert (len(content), found.st_size) == (200_000, 200_000)


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"y" * 200_000,))
    writer.start()
    assert read_file(pipe)[0] == b"y" * 200_000
    writer.join()


def test_a_pipe_that_nobody_writes_to_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_PATIENCE_S", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(TimeoutError, match="does not end"):
        read_file(pipe)


def test_a_device_without_end_is_too_large() -> None:
    with pytest.raises(OSError, match="more than 16 MiB"):
        read_file(Path("/dev/zero"))


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero", "/"])
def test_what_is_read_again_is_a_regular_file(path: str) -> None:
    with pytest.raises(OSError, match="not a regular file"):
        read_file(Path(path), once=False)
