"""Files that a command is to write: what is refused before it measures, and who is blamed."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from corral.cli.files import check_apart, check_writable
from corral.cli.main import run
from corral.cli.tune import chart_beside
from corral.errors import ConfigError, CorralError
from corral.settings.files import write_text


@pytest.mark.parametrize(
    "words",
    [
        ["profile", "--backend", "null", "--trace"],
        ["profile", "--backend", "null", "--html"],
        ["doctor", "--html"],
        ["tune", "--backend", "null", "--p99-ms", "5", "--html"],
        ["tune", "--backend", "null", "--p99-ms", "5", "--out"],
    ],
    ids=" ".join,
)
def test_a_pipe_that_nobody_reads_holds_nothing_up(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert run([*words, str(pipe)], {"HOME": str(tmp_path)}) == 2
    assert capsys.readouterr().err == f"corral: {words[-1]} {pipe}: no regular file\n"


def test_a_ladders_page_is_no_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "ladder-resnet50.md")
    words = ["ladder", "--backend", "onnxruntime", "--out", str(tmp_path)]
    assert run(words, {"HOME": str(tmp_path)}) == 2
    assert capsys.readouterr().err.endswith("ladder-resnet50.md: no regular file\n")


def test_sockets_and_devices_are_refused_and_streams_are_not(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        with pytest.raises(ConfigError, match="no regular file"):
            check_writable(tmp_path / "socket", "--html")
    with pytest.raises(ConfigError, match="--html /dev/zero: no regular file"):
        check_writable(Path("/dev/zero"), "--html")
    readable, writable = os.pipe()
    try:
        for path in ("/dev/null", "/dev/stdout", f"/dev/fd/{writable}"):
            check_writable(Path(path), "--html")
    finally:
        os.close(readable)
        os.close(writable)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_the_options() -> None:
    with pytest.raises(CorralError, match="--html /dev/full: no space left on device") as raised:
        write_text(Path("/dev/full"), "--html", "text")
    assert raised.value.exit_code == 1


def test_results_that_would_overwrite_one_another_are_told(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("page.html")
    (tmp_path / "circle").symlink_to("circle")
    check_apart({"--html": tmp_path / "page.html", "--out": tmp_path / "circle", "--trace": None})
    check_apart({"--html": Path("/dev/stdout"), "--out": Path("/dev/stdout")})
    for other in (tmp_path / "link", tmp_path / "." / "page.html"):
        with pytest.raises(ConfigError, match="--html and --out have the same file"):
            check_apart({"--html": tmp_path / "page.html", "--out": other})


@pytest.mark.parametrize(
    ("html", "chart"),
    [("a.html", "a.png"), ("a.png", "a.png.png"), ("a", "a.png"), ("/dev/null", None)],
)
def test_a_chart_lies_beside_its_page(html: str, chart: str | None) -> None:
    assert chart_beside(Path(html)) == (chart and Path(chart))


def test_a_result_replaces_what_was_there_behind_its_link_and_with_its_mode(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("older, and longer than what comes")
    real.chmod(0o640)
    link.symlink_to("real")
    write_text(link, "--html", "text")
    assert link.is_symlink()
    assert real.read_text() == "text"
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(tmp_path.iterdir()) == [link, real]


def test_a_new_result_has_the_users_mode(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "new", "--html", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_a_link_into_nowhere_stays_and_nothing_is_made_there(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    check_writable(tmp_path / "link", "--html")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]
    write_text(tmp_path / "link", "--html", "text")
    assert (tmp_path / "file").read_text() == "text"


def test_what_cannot_be_put_over_is_written_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    (tmp_path / "file").write_text("older")
    monkeypatch.setattr(Path, "rename", busy)
    write_text(tmp_path / "file", "--html", "text")
    assert (tmp_path / "file").read_text() == "text"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_where_nothing_can_be_made_beside_it_a_file_is_written_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, opened = tmp_path / "file", os.open

    def refusing(path: Path, flags: int, mode: int = 0o777, **options: int) -> int:
        if flags & os.O_EXCL:
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, mode, **options)

    file.write_text("older")
    monkeypatch.setattr(os, "open", refusing)
    write_text(file, "--html", "text")
    assert file.read_text() == "text"
