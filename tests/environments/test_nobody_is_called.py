"""Nobody is called unasked: no packet leaves for another machine, and no name is looked up.

Each command runs where every packet for elsewhere is seen (support.alone), with an empty home, in
which no library may leave an id of this device either.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from support.alone import alone
from support.running_server import environment

from corral.backends.registry import ENGINES

ROOT = Path(__file__).parents[2]
_PYTHON = [sys.executable, "-m"]
#: of the zoo: its weights may be fetched, and are installed
_MODEL = ["--model", "efficientnet_lite0"]
#: what a library does when it is used does not depend on how much it has to do
_SMALL = ["--model", str(ROOT / "tests" / "data" / "models" / "colours.onnx")]
#: ONNX Runtime's telemetry looks its maker up within 6 s of a session
_LISTEN_S = 8

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a network namespace"),
    pytest.mark.timeout(300),
]


_CLIENT = Path(sys.executable).with_name("corral-client")


def _serve(*args: str, ask: str = "true") -> str:
    """A script: a server, asked by the client's command, that lives as long as any would call."""
    command = " ".join([*_PYTHON, "corral", "serve", "--port", "8001", "--metrics-port", "8002"])
    return (
        f"{command} {' '.join(args)} & server=$!; "
        f"{_CLIENT} wait --timeout-s 200 --url 127.0.0.1:8001 && {{ {ask}; }} || "
        f"{{ kill $server; exit 1; }}; "
        f"sleep {_LISTEN_S}; kill $server; wait $server"
    )


#: a command is a line
COMMANDS = {
    "serve openvino": _serve("--backend", "openvino", "--precision", "fp32", *_MODEL),
    "serve onnxruntime": _serve("--backend", "onnxruntime", "--precision", "fp32", *_MODEL),
    "serve torch": _serve(
        "--backend", "torch", "--torch-mode", "eager", "--precision", "fp32", *_MODEL
    ),
    "prepare int8 with nncf": " ".join(
        [*_PYTHON, "corral", "prepare", "--backend", "openvino", "--precision", "int8", *_SMALL]
    ),
    "tune": " ".join([*_PYTHON, "corral", "tune", *_SMALL]),
    "ladder": (
        f"{' '.join(_PYTHON)} corral ladder --repeats 1 --seconds 0.1 --rungs onnxruntime "
        f"--out $HOME/ladder {' '.join(_SMALL)}"
    ),
    "serve null, client in both forms, and status": _serve(
        "--backend",
        "null",
        "--http-port",
        "8000",
        ask=(
            f"{_CLIENT} infer --random uint8 --url 127.0.0.1:8001 && "
            f"{_CLIENT} statistics --http --url 127.0.0.1:8000 && "
            f"{_CLIENT} metadata --url '[::1]:8001' --json >/dev/null || "
            f"{_CLIENT} metadata --url localhost:8001 --json && "
            f"{' '.join(_PYTHON)} corral status --port 8001 && {' '.join(_PYTHON)} corral plan && "
            f"{' '.join(_PYTHON)} corral reload --port 8001"
        ),
    ),
    "lab raw": (
        f"echo 0.1 | {' '.join(_PYTHON)} corral lab raw --backend onnxruntime --precision fp32 "
        f"{' '.join(_SMALL)}; sleep {_LISTEN_S - 2}"
    ),
    "load test": (
        f"{' '.join(_PYTHON)} corral_loadtest.servers.baseline 8001 FP32 & server=$!; "
        f"{Path(sys.executable).with_name('corral-client')} wait --timeout-s 60 --url "
        f"127.0.0.1:8001; {' '.join(_PYTHON)} corral_loadtest run --address 127.0.0.1:8001 "
        "--duration 0.5; code=$?; kill $server; exit $code"
    ),
}


@pytest.mark.parametrize("users_own", [{}, {"ORT_DISABLE_TELEMETRY": "0"}], ids=["", "switched on"])
def test_an_opt_out_of_corral_is_not_to_be_overridden(
    users_own: dict[str, str], tmp_path: Path
) -> None:
    _check(COMMANDS["serve onnxruntime"], tmp_path, users_own)


#: half a minute each; what serves is listened to in every run
_LONG = {"prepare int8 with nncf", "tune", "ladder", "lab raw", "load test", "serve torch"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long) if name in _LONG else name
        for name in COMMANDS
        if name != "serve onnxruntime"
    ],
)
def test_nobody_is_called(name: str, tmp_path: Path) -> None:
    _check(COMMANDS[name], tmp_path, {})


#: engines that are not among a test's installed packages, and what stands for them
_ELSEWHERE = {"ipex": "torch's own process, in an environment of its own (make ipex)"}


def test_every_engine_is_listened_to() -> None:
    names = {name.value for name in ENGINES} - set(_ELSEWHERE)
    assert names == {name for name in names if any(c.startswith(f"serve {name}") for c in COMMANDS)}


def test_a_call_would_be_seen(tmp_path: Path) -> None:
    """The test itself: a look-up and a packet are seen."""
    call = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
    call += "s.sendto(b'x', ('192.0.2.1', 9)); socket.socket().connect_ex(('127.0.0.1', 4242)); "
    call += "socket.getaddrinfo('example.invalid', 80)"
    _, calls = alone([sys.executable, "-c", call], environment())
    assert any("192.0.2.1 port 9" in line for line in calls)
    assert any("loopback port 4242" in line for line in calls)
    assert any("name service" in line and "example" in line for line in calls)


def _check(script: str, tmp_path: Path, more: dict[str, str]) -> None:
    cache = os.environ.get("CORRAL_TEST_CACHE", str(ROOT / ".cache" / "e2e"))
    env = {**environment(), "HOME": str(tmp_path), "CORRAL_CACHE": cache, **more}
    # Not offline by the environment: what may be fetched is weights, and these are installed.
    del env["CORRAL_OFFLINE"]
    done, calls = alone(["sh", "-c", script], env, timeout_s=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert calls == []
    assert not [
        path for path in tmp_path.rglob("*")
        if any(word in path.name.lower() for word in ("deviceid", "microsoft", "telemetry"))
    ]  # fmt: skip
