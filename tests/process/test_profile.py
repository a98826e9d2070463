"""``corral profile`` as a user runs it, on the null backend and on a running server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tritonclient.grpc as triton
from support.running_server import Server, StartServer, wait_until

from corral.profiling.report import ProfileReport
from corral.supervisor import admin

NULL = ("--backend", "null", "--workers", "1", "--allocator", "system", "--null-item-ms", "2")


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "corral", "profile", *words]


def corral(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), check=False, text=True, capture_output=True, timeout=90)


def test_a_server_of_its_own_gives_a_budget_a_trace_and_a_page(tmp_path: Path) -> None:
    trace, page = tmp_path / "trace.json", tmp_path / "page.html"
    # What a server of production has: it is asked on this machine, under that name, without keys.
    config = write(
        tmp_path,
        "corral.toml",
        f'host = "127.0.0.2"\nmodel-name = "other"\nauth-token-file = "{tmp_path}/none"\n'
        f'unix-socket = "{tmp_path}/socket"\naccess-log = "{tmp_path}/access.log"\n',
    )
    words = ("--config", str(config), "--trace", str(trace), "--html", str(page))
    result = corral(*NULL, "--seconds", "0.5", "--json", *words)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    budget = report["budget"]
    assert budget["requests"] >= 2
    phases = {phase["name"]: phase for phase in budget["phases"]}
    assert list(phases) == [
        "receive", "admit", "queue", "copy", "wake", "infer", "copy out", "answer"
    ]  # fmt: skip
    assert all(phase["p50_us"] >= 0 for phase in phases.values())
    # It sleeps for two milliseconds.
    assert phases["infer"]["p50_us"] >= 2000
    whole = sum(phase["mean_us"] for phase in phases.values())
    assert budget["total"]["mean_us"] == pytest.approx(whole)
    assert budget["client"]["p50_us"] >= budget["total"]["p50_us"]
    events = json.loads(trace.read_text())["traceEvents"]
    assert sum(event["name"] == "request" for event in events) == budget["requests"]
    assert {event["ph"] for event in events} == {"M", "X", "s", "f"}
    assert "budget" in page.read_text()
    assert not list(tmp_path.glob("access.log"))
    # Two of its own files: nothing of a trace is left in the other.
    same = corral("--compare", *(str(write(tmp_path, n, result.stdout)) for n in ("a", "b")))
    assert same.returncode == 0
    assert "nothing of the requests changed" in same.stdout
    read = corral("--compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json")
    notes = ["the null backend computes nothing: there are no operators"]
    found = json.loads(read.stdout)
    assert found["notes"][0][:1] == found["notes"][1][:1] == notes
    assert (found["compared"], found["changes"], read.stderr) == (["requests"], [], "")


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_running_server_is_traced_and_serves_on(server: StartServer) -> None:
    with server("--workers", "1", "--allocator", "system") as s:
        client = triton.InferenceServerClient(f"127.0.0.1:{s.port}")
        tensor = triton.InferInput("input", [1, 3, 224, 224], "FP32")
        tensor.set_data_from_numpy(np.zeros((1, 3, 224, 224), np.float32))
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                client.infer("resnet50", [tensor])

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            result = corral("--live", "--port", str(s.port), "--seconds", "0.5", "--json")
        finally:
            over.set()
            asking.join()
        assert result.returncode == 0, result.stderr
        report = json.loads(result.stdout)
        assert report["served_by"] == "the running server"
        assert report["budget"]["requests"] >= 1
        assert report["budget"]["client"] is None
        assert report["worker_threads"]["0"]["span_s"] >= 0.5
        # Whoever else was busy on the worker's CPUs is told; the server itself is nobody else.
        assert 0 <= report["busy_percent"] <= 100
        # The trace is over, and the server as it was.
        assert client.infer("resnet50", [tensor]).as_numpy("output").shape == (1, 1000)
        longer = corral("--live", "--port", str(s.port), "--seconds", "1e9")
        assert longer.returncode == 2
        assert s.stop() == 0


def trace(s: Server, seconds: float) -> admin.Reply:
    socket_path = admin.find_socket(os.environ, s.port)
    return admin.ask(socket_path, admin.Request(command="trace", seconds=seconds))


def is_traced(s: Server) -> bool:
    """Whether the supervisor holds memory of a trace; asking it for one would be in the way."""
    found = False
    for fd in Path(f"/proc/{s.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found |= "trace" in fd.readlink().name
    return found


def test_an_interrupted_look_is_of_that_server_and_ends_its_trace(server: StartServer) -> None:
    with server("--workers", "2", "--mode", "throughput", "--allocator", "system") as s:
        process = subprocess.Popen(
            command("--live", "--port", str(s.port), "--seconds", "30", "--json"),
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            wait_until(lambda: is_traced(s), "its trace")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 130, err
        report = json.loads(out)
        assert (report["mode"], report["workers"]) == ("throughput", 2)
        assert report["seconds"] < 15
        # Nobody waits for it: another one may begin, and is answered.
        wait_until(lambda: not is_traced(s), "the trace's end", 10.0)
        assert trace(s, 0.01).trace is not None
        assert s.stop() == 0
        assert "Exception in callback" not in s.stderr


def test_a_server_that_ends_while_it_traces_logs_no_error(server: StartServer) -> None:
    with server("--workers", "1", "--allocator", "system") as s:
        # It says no more, and still waits for its answer.
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(str(admin.find_socket(os.environ, s.port)))
            asked.sendall(b'{"command":"trace","seconds":0.5}\n')
            asked.shutdown(socket.SHUT_WR)
            asked.settimeout(20)
            assert b'"trace":[' in asked.recv(65536)
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(str(admin.find_socket(os.environ, s.port)))
            asked.sendall(b'{"command":"trace","seconds":30}\n')
            wait_until(lambda: is_traced(s), "its trace")
            assert s.stop() == 0
        assert "Exception in callback" not in s.stderr
        assert "ERROR" not in s.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_leaves_nothing_behind_and_prints_what_is_known(
    tmp_path: Path, how: signal.Signals
) -> None:
    process = subprocess.Popen(
        command(*NULL, "--seconds", "30"),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        wait_until(lambda: list(tmp_path.glob("corral-own-*/admin")), "its server")
        process.send_signal(how)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "interrupted; this is what is known" in err
    assert "resnet50" in out
    # The folder of the server goes when the server has ended.
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--compare", "/proc/none/a.json", "/proc/none/b.json"),
            "/proc/none/a.json: no such file",
        ),
        (("--compare", __file__, __file__), "no profile of corral profile --json"),
        # It has no end.
        (("--compare", "/dev/zero", "/dev/zero"), "/dev/zero: it has more than 16 MiB"),
        (("--trace", "/proc/none/t.json"), "--trace /proc/none/t.json: no such file"),
        (("--seconds", "0"), "--seconds: a number of seconds, more than 0, at most 60, is needed"),
        (("--live", "--port", "1"), "no server answers"),
        (("--live", "--port", "1", "--batch", "4"), "--batch is of no use with --live"),
        (("--live", "--port", "1", "--workers", "2"), "--workers is of no use with --live"),
        (("--compare", "a", "b", "--html", "x"), "--html is of no use with --compare"),
        (("--compare", "a", "b", "--seconds", "5"), "--seconds is of no use with --compare"),
        (("--compare", "a", "b", "--mode", "rti"), "--mode is of no use with --compare"),
        (("--trace", "/dev/full"), "--trace /dev/full: no regular file"),
        (("--html", "a", "--trace", "./a"), "--html and --trace have the same file: a"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from corral.cli.main import run

    try:
        code: object = run(["profile", *words], {})
    except SystemExit as end:
        code = end.code
    assert code == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not captured.out


def test_profiles_without_anything_in_common_are_not_said_to_be_equal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from corral.cli.main import run

    nothing = msgspec.json.encode(
        ProfileReport(cpu="", model="", mode="rti", served_by="", workers=1, seconds=0.0)
    )
    (tmp_path / "a").write_bytes(nothing)
    assert run(["profile", "--compare", *[str(tmp_path / "a")] * 2], {}) == 2
    captured = capsys.readouterr()
    assert "a have neither operators nor requests in common" in captured.err
    assert not captured.out
