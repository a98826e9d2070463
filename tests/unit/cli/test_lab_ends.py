"""What measures one thing ends on SIGTERM as on Ctrl-C: with a word, however often they come."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.cli import profile, tune
from corral.cli.interrupting import interrupts
from corral.cli.main import run
from corral.lab.evaluate import command as evaluation
from corral.lab.ladder import command as ladder
from corral.profiling.report import ProfileReport
from corral.slo.report import CurvePoint, TuneReport, Winner
from corral.supervisor.child_server import ChildServer
from corral.system import haste

_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def no_haste() -> Iterator[None]:
    yield
    haste.want(wanted=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("module", "words"),
    [
        (ladder, ["ladder"]),
        (evaluation, ["evaluate", "pictures"]),
    ],
)
def test_it_ends_with_a_word(
    module: object,
    words: list[str],
    *,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}

    def climb(*_: object) -> int:
        signal.raise_signal(number)
        return 0

    monkeypatch.setattr(module, "run", climb)
    monkeypatch.chdir(tmp_path)
    assert run([*words, "--backend", "onnxruntime"], {"HOME": str(tmp_path)}) == 130
    assert capsys.readouterr().err == "corral: interrupted; nothing was written\n"
    assert {one: signal.getsignal(one) for one in before} == before


def test_under_nohup_it_goes_on() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_one_does_not_interrupt_what_the_first_has_begun() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            assert not haste.is_wanted()
            for number in _ENDS:
                signal.raise_signal(number)
            done.append("cleaned up")
    assert done
    assert haste.is_wanted()
    with interrupts():
        assert not haste.is_wanted()


def test_one_that_was_lost_does_not_make_the_next_one_deaf() -> None:
    with interrupts():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)


class _Interrupted:
    """A measurement that ends by signals, the later ones while it cleans up."""

    def __init__(self, report: Any, *, done: bool) -> None:
        self._report = report
        self._done = done

    def run(self, _: object) -> None:
        if not self._done:
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.raise_signal(signal.SIGINT)

    @property
    def report(self) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return self._report


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("command", ["tune", "profile"])
def test_what_is_known_is_printed_however_often_it_is_ended(
    command: str,
    *,
    done: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    search = TuneReport(p99_ms=50, model="m", cpu="c", arrivals="Poisson", space={})
    seen = ProfileReport(cpu="c", model="m", mode="rti", served_by="us", workers=1, seconds=1)

    class Search(_Interrupted):
        def report(self) -> Any:
            return super().report

    monkeypatch.setattr(tune, "_make", lambda *_, **__: Search(search, done=done))
    monkeypatch.setattr(profile, "Profiling", lambda *_: _Interrupted(seen, done=done))
    monkeypatch.chdir(tmp_path)
    words = [command, "--backend", "null", "--json", "--html", "page.html"]
    code = run([*words, *(("--p99-ms", "50") if command == "tune" else ())], {"HOME": "."})
    assert code == (130 if not done else {"tune": 1, "profile": 0}[command])
    captured = capsys.readouterr()
    assert captured.out.endswith("}\n")
    assert ("this is what is known" in captured.err) is not done
    assert "nothing was written" not in captured.err
    assert (tmp_path / "page.html").read_text().endswith("</html>\n")


def test_a_server_is_not_waited_for_in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen

    def deaf(*_: object, **__: object) -> subprocess.Popen[bytes]:
        child = real(["sh", "-c", "trap '' TERM; echo; sleep 60"], stdout=subprocess.PIPE)
        assert child.stdout
        child.stdout.readline()
        return child

    monkeypatch.setattr(subprocess, "Popen", deaf)
    server = ChildServer([])
    haste.want()
    began_s = time.monotonic()
    server.end()
    assert time.monotonic() - began_s < 5
    assert not Path(f"/proc/{server.pid}").exists()
    assert not server.socket.parent.exists()


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Files that take 100 bytes and no more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


_WINNER = Winner(
    settings={"workers": 2, "p99-ms": 50.0}, name="a", rate=30.0, rate_interval=[30.0, 32.0],
    p99_ms=48.0, p99_interval_ms=[45.0, 49.5], p50_ms=20.0, idle_p50_ms=11.0, confirmed=True,
)  # fmt: skip


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize(
    ("command", "failed"),
    [("tune", "--out tuned.toml"), ("profile", "--html page.html"), ("doctor", "--html page.html")],
)
def test_where_the_disk_is_full_by_then_what_is_known_is_printed_and_older_files_stay(
    command: str,
    failed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    search = TuneReport(
        p99_ms=50, model="m", cpu="c", arrivals="Poisson", space={}, winner=_WINNER,
        curves=[[CurvePoint(rate=10, p50_ms=9, p99_ms=20, name="a")]],
    )  # fmt: skip
    seen = ProfileReport(cpu="c", model="m", mode="rti", served_by="us", workers=1, seconds=1)

    class Search(_Interrupted):
        def report(self) -> Any:
            return self._report

    class Profiled(_Interrupted):
        report = seen

    monkeypatch.setattr(tune, "_make", lambda *_, **__: Search(search, done=True))
    monkeypatch.setattr(profile, "Profiling", lambda *_: Profiled(None, done=True))
    monkeypatch.chdir(tmp_path)
    older = {tmp_path / name: f"older {name}" for name in ("tuned.toml", "page.html", "page.png")}
    for file, text in older.items():
        file.write_text(text)
    words = [command, "--backend", "null", "--json", "--html", "page.html"]
    if command == "tune":
        words += ["--p99-ms", "50"]
    assert run(words, {"HOME": "."}) == 1
    captured = capsys.readouterr()
    json.loads(captured.out)
    assert captured.err.splitlines()[-1] == f"corral: {failed}: file too large"
    assert {file: file.read_text() for file in tmp_path.iterdir()} == older
