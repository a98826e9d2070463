"""The access log: its file moved away, full, gone, and a server that writes one."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from support.running_server import null_server, wait_until

from corral.errors import ConfigError
from corral.telemetry import access_log
from corral.telemetry.access_log import AccessLog


def lines(path: Path) -> list[Any]:
    return (
        [json.loads(text)["n"] for text in path.read_text().splitlines()] if path.exists() else []
    )


def test_a_file_that_was_moved_away_is_opened_anew(tmp_path: Path) -> None:
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    log = AccessLog(str(path))
    log.add({"n": 1})
    wait_until(lambda: lines(path) == [1], "the line")
    path.rename(moved)
    wait_until(path.exists, "the new file")
    log.add({"n": 2})
    wait_until(lambda: lines(path) == [2], "the line")
    assert lines(moved) == [1]
    log.close()
    assert (log.written, log.dropped) == (2, 0)
    assert path.stat().st_mode & 0o777 & ~0o640 == 0


def test_what_waits_at_the_end_is_written(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    for number in range(1000):
        log.add({"n": number})
    log.close()
    assert lines(path) == list(range(1000))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_drops_lines_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog("/dev/full")
    log.add({"n": 1})
    wait_until(lambda: log.dropped == 1, "the first line")
    log.add({"n": 2})
    wait_until(lambda: log.dropped == 2, "the second line")
    log.close()
    assert log.written == 0
    (said,) = (record.message for record in caplog.records)
    assert said.startswith("the access log cannot be written (No space left on device): ")


def test_a_pipe_that_nobody_reads_fills_up_and_drops(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(pipe))
    for number in range(access_log._MOST_WAITING + 9000):
        log.add({"n": number, "text": "x" * 100})
    assert log.dropped > 0
    os.close(reader)
    log.close()


def test_a_file_that_cannot_be_opened_is_a_clear_word(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--access-log .*missing/log: No such file or directory"):
        AccessLog(str(tmp_path / "missing" / "log"))
    with pytest.raises(ConfigError, match="Is a directory"):
        AccessLog(str(tmp_path))


def test_a_server_whose_log_cannot_be_opened_says_so_and_does_not_start(tmp_path: Path) -> None:
    with null_server("--access-log", str(tmp_path), ready=False) as server:
        assert server.wait() == 2
    assert any("--access-log" in line and "Is a directory" in line for line in server.lines)


def test_standard_output_takes_the_log_and_a_full_one_stops_nobody() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with null_server("--workers", "1", "--access-log", "/dev/full") as server:
        url = f"http://127.0.0.1:{server.http_port}/v2/health/live"
        for _ in range(3):
            assert urllib.request.urlopen(url, timeout=10).status == 200
        metrics = f"http://127.0.0.1:{server.metrics_port}/metrics"

        def dropped() -> bool:
            with urllib.request.urlopen(metrics, timeout=10) as page:
                return b"corral_access_log_lines_dropped_total 3.0" in page.read()

        wait_until(dropped, "three lines to be dropped")
        assert urllib.request.urlopen(url, timeout=10).status == 200
