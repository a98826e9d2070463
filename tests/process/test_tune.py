"""``corral tune --p99-ms`` as a user runs it, on the null backend."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.running_server import StartServer, null_server, wait_until

from corral.cli.command_line import settings_of
from corral.cli.main import run
from corral.supervisor.child_server import _END_WITH_PARENT
from corral.system import procfs

#: a batch costs little more than its items: four together are a third faster
NULL = ("--backend", "null", "--allocator", "system", "--null-batch-ms", "5", "--null-item-ms",
        "10")  # fmt: skip
#: few requests are enough to see that it works, and one worker or two are enough to choose from
QUICK = ("--cores-per-worker", "1", "--max-queue-delay-ms", "0",
         "--mode", "throughput", "--max-batch", "2")  # fmt: skip
#: no time for a server
SHORT = ("--budget-s", "1", "--workers", "1")


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "corral", "tune", *words]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One search, and what it wrote."""
    folder = tmp_path_factory.mktemp("tune")
    done = subprocess.run(
        command(*NULL, *QUICK, "--budget-s", "20", "--p99-ms", "200", "--rate", "20", "--json",
                "--html", "page.html", "--cache-dir", "cache"),
        check=False, text=True, capture_output=True, timeout=90, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.mark.timing
def test_the_report_has_what_was_promised(tuned: tuple[Path, dict[str, Any]]) -> None:
    _, report = tuned
    assert report["p99_ms"] == 200
    winner = report["winner"]
    assert winner["confirmed"]
    assert winner["p99_interval_ms"][1] <= 200
    assert winner["rate_interval"][0] <= winner["rate_interval"][1]
    # Two workers that take 25 ms for two items.
    assert 50 < winner["rate"] < 160
    assert report["space"]["configurations"] == 2
    assert 1 <= report["measured_configurations"] <= 3
    measured = [row for row in report["candidates"] if row["measured"]]
    assert len(measured) == report["measured_configurations"]
    rest = [row for row in report["candidates"] if not row["measured"]]
    assert all(row["predicted"] and row["lost"] for row in rest)
    losers = [row for row in measured if row["settings"].items() - winner["settings"].items()]
    assert all(row["lost"] for row in losers)
    assert report["headroom"] == pytest.approx(winner["rate"] / 20 - 1)
    assert report["pareto"]


@pytest.mark.timing
def test_two_workers_win_over_one(tuned: tuple[Path, dict[str, Any]]) -> None:
    assert tuned[1]["winner"]["settings"]["workers"] == 2


@pytest.mark.timing
def test_its_settings_are_a_servers(tuned: tuple[Path, dict[str, Any]]) -> None:
    folder, report = tuned
    file = folder / "tuned.toml"
    settings = settings_of(["serve", "--config", str(file)], {})
    assert settings.queue.p99_ms == 200
    assert settings.placement.workers == report["winner"]["settings"]["workers"]
    assert settings.null.batch_ms == 5
    with null_server("--config", str(file)) as server:
        assert len(server.workers()) == settings.placement.workers


@pytest.mark.timing
def test_the_page_and_the_picture_are_there(tuned: tuple[Path, dict[str, Any]]) -> None:
    folder, report = tuned
    page = (folder / "page.html").read_text()
    assert report["winner"]["name"] in page
    assert "<svg" in page
    assert (folder / "page.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.timing
def test_the_search_is_remembered(tuned: tuple[Path, dict[str, Any]]) -> None:
    folder, report = tuned
    (file,) = (folder / "cache" / "tune").iterdir()
    (entry,) = json.loads(file.read_text())["content"]["entries"]
    assert entry["rate"] == report["winner"]["rate"]
    assert {speed["engine"] for speed in entry["speeds"]} == {"null"}


def test_a_short_budget_gives_a_prediction_and_says_what_was_left_out(tmp_path: Path) -> None:
    done = subprocess.run(
        command(*NULL, *QUICK, *SHORT, "--p99-ms", "200", "--json", "--cache-dir", "cache"),
        check=False, text=True, capture_output=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    winner = report["winner"]
    assert not winner["confirmed"]
    assert report["measured_configurations"] == 0
    assert f"{winner['name']}, under load: the time was over" in report["not_tried"]
    assert any(note.startswith("--budget-s 1 is too short here") for note in report["notes"])
    assert "starting a server" not in done.stderr
    assert (tmp_path / "tuned.toml").exists()


@contextlib.contextmanager
def calibrating(folder: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A search in that folder, once its first server is under load."""
    with subprocess.Popen(
        command(*NULL, *QUICK, "--budget-s", "60", "--p99-ms", "200", *args),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, process_group=0,
        env={**os.environ, "TMPDIR": str(folder)},
    ) as tune:  # fmt: skip
        assert tune.stderr
        for line in tune.stderr:
            if "calibrating" in line:
                break
        yield tune


def test_ctrl_c_prints_what_is_known_and_leaves_nothing(tmp_path: Path) -> None:
    older = tmp_path / "tuned.toml"
    older.write_text("an older search's")
    with calibrating(tmp_path, "--cache-dir", "cache") as tune:
        os.kill(tune.pid, signal.SIGINT)
        output, said = tune.communicate(timeout=30)
    assert tune.returncode == 130
    assert "interrupted; this is what is known" in said
    assert "not confirmed under load" in output
    assert "Traceback" not in said
    # Servers, workers and load generators were in groups of their own: none of them is left.
    wait_until(lambda: not _alive_under(tmp_path), "everything has ended", 5)
    assert list(tmp_path.iterdir()) == [older]
    assert older.read_text() == "an older search's"
    assert "corral serve --config" not in output


def test_what_is_known_is_printed_where_a_server_is_gone(tmp_path: Path) -> None:
    with calibrating(tmp_path, "--json", "--cache-dir", str(tmp_path / "cache")) as tune:
        servers = procfs.children(tune.pid)
        (server,) = (
            pid for pid in servers if b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(server, signal.SIGKILL)
        output, said = tune.communicate(timeout=60)
    assert tune.returncode == 1, said
    reason = said.splitlines()[-1].removeprefix("corral: ")
    report = json.loads(output)
    assert f"not complete: {reason}" in report["notes"]
    assert report["candidates"]
    assert not (tmp_path / "tuned.toml").exists()
    wait_until(lambda: not _alive_under(tmp_path), "everything has ended", 5)


def test_what_a_killed_search_leaves_is_cleared_by_the_next(tmp_path: Path) -> None:
    with calibrating(tmp_path, "--cache-dir", "cache") as tune:
        os.kill(tune.pid, signal.SIGKILL)
        tune.communicate(timeout=30)
    wait_until(lambda: not _alive_under(tmp_path), "servers and load generators have ended", 20)
    left = list(tmp_path.glob("corral-own-*"))
    assert left
    with calibrating(tmp_path, "--cache-dir", "cache") as tune:
        assert not set(left) & set(tmp_path.iterdir())
        os.kill(tune.pid, signal.SIGINT)
        tune.communicate(timeout=30)
    wait_until(lambda: not _alive_under(tmp_path), "everything has ended", 5)
    assert not list(tmp_path.iterdir())


def test_a_server_whose_search_has_died_before_it_began_does_not_start() -> None:
    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    gone.wait()
    done = subprocess.run(
        [sys.executable, "-S", "-c", _END_WITH_PARENT, str(gone.pid), "/bin/echo", "started"],
        check=False, text=True, capture_output=True, timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def _alive_under(folder: Path) -> list[str]:
    """Command lines of processes that name a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(folder) in words:
                found.append(words)
    return found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rate", "5"), "--rate needs --p99-ms"),
        (("--exhaustive",), "--exhaustive needs --p99-ms"),
        (("--p99-ms", "0"), "--p99-ms"),
        (
            ("--p99-ms", "50", "--rate", "-1"),
            "--rate: a number of requests a second, more than 0",
        ),
        (
            ("--p99-ms", "50", "--budget-s", "0"),
            "--budget-s: a number of seconds, more than 0, at most",
        ),
        (("--p99-ms", "50", "--arrivals", "missing"), "--arrivals missing: no such file"),
        (("--p99-ms", "50", "--arrivals", "/dev"), "--arrivals /dev: is a directory"),
        (("--p99-ms", "50", "--arrivals", "/dev/zero"), "it has more than 16 MiB"),
        (("--p99-ms", "50", "--out", "missing/x"), "--out missing/x: no such file"),
        (("--p99-ms", "50", "--html", "missing/x"), "--html missing/x: no such file"),
        (("--p99-ms", "50", "--html", "tuned.toml"), "--out and --html have the same file"),
        (("--p99-ms", "50", "--html", "a", "--out", "a.png"), "--out and --html's chart have"),
        # The null backend takes 15 ms.
        (("--p99-ms", "14"), "--p99-ms 14: one inference takes 1"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(
    words: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code: object = run(["tune", *NULL, "--cache-dir", "cache", *words], {})
    except SystemExit as end:
        code = end.code
    assert code == 2
    captured = capsys.readouterr()
    (line,) = (line for line in captured.err.splitlines() if not line.startswith("tune: "))
    assert said in line
    assert not captured.out
    assert not list(tmp_path.iterdir())


def status(port: int, *words: str) -> str:
    command = [sys.executable, "-m", "corral", "status", "--port", str(port), *words]
    return subprocess.run(command, check=True, text=True, capture_output=True).stdout


def test_a_server_says_up_to_which_rate_it_keeps_a_bound(server: StartServer) -> None:
    # A batch of 8 takes ten times as long as a lone item, and answers no more a second.
    with server(
        "--p99-ms", "100", "--mode", "throughput", "--workers", "1", "--allocator", "system",
        "--null-batch-ms", "0.5", "--null-item-ms", "10", "--max-batch", "8",
    ) as s:  # fmt: skip

        def bound() -> Any:
            return json.loads(status(s.port, "--json"))["bound"]

        # It is computed when nothing else has the CPUs.
        known = wait_until(
            lambda: (b := bound())["keeps_per_s"] is not None and b, "it is known", 120
        )
        assert known["p99_ms"] == 100
        assert 40 < known["keeps_per_s"] < 96
        assert known["batch_cap"] in {1, 2, 4, 8}
        assert "keeps p99 <= 100 ms up to" in status(s.port)
