"""R8 where a search settled engine and precision: the other mode has a search of its own."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support.running_server import StartServer, running, wait_until
from support.scenarios.reload import CapacityWatch, ask_admin, serving, status_of
from support.server_counters import Scrape

from corral_client import Client

MODEL = "efficientnet_lite0"
#: small: what is searched, and how often, does not depend on how long a batch takes
SMALL = Path(__file__).parents[1] / "data" / "models" / "colours.onnx"
AUTO = ("--backend", "auto", "--precision", "auto")
PENS = ("--workers", "2", "--cores-per-worker", "1", "--oversubscribe")


def _searches(cache: Path) -> list[str]:
    return sorted(file.name.rsplit("-", 1)[0] for file in (cache / "profiles").iterdir())


@pytest.mark.long
@pytest.mark.timeout(500)
def test_r8_a_mode_switch_with_auto_searches_once_and_costs_no_request(
    real_server: StartServer, tmp_path: Path
) -> None:
    stop = threading.Event()
    picture = np.zeros((1, 3, 32, 32), np.float32)

    def ask_on(port: int) -> int:
        answers = 0
        with Client(f"127.0.0.1:{port}", model="colours") as client:
            # The rest of the machine is the reload's.
            while not stop.wait(0.03):
                assert len(client.infer(picture)) == 1
                answers += 1
        return answers

    where = ("--cache-dir", str(tmp_path), "--model", str(SMALL))
    with real_server(*where, *AUTO, *PENS, ready=False) as server, ThreadPoolExecutor(1) as pool:
        server.wait_until_ready(timeout_s=300)
        wait_until(lambda: serving(server) == 2, "both workers")
        assert _searches(tmp_path) == ["colours-rti"]
        with CapacityWatch(server, every_s=0.1) as watch:
            load = pool.submit(ask_on, server.port)
            try:
                for mode in ("throughput", "rti", "throughput"):
                    reply = ask_admin(server, "mode", mode)
                    assert reply.exit_code == 0, reply.text
                    status = status_of(server)
                    assert status.mode == mode
                    assert status.search.startswith(f"{status.backend} {status.precision}")
            finally:
                stop.set()
            assert load.result() > 0
        assert watch.least >= 1
        # The second and the third switch found what the first start and the first switch measured.
        assert _searches(tmp_path) == ["colours-rti", "colours-throughput"]
        doubts = server.stderr.count("engines were compared")
        assert 2 <= server.stderr.count("measuring") <= 2 + doubts
        reply = ask_admin(server, "reload")
        assert (reply.exit_code, status_of(server).mode) == (0, "rti"), reply.text
        assert 2 <= server.stderr.count("measuring") <= 2 + doubts
        scrape = Scrape(server.metrics_port)
        for outcome in ("failed", "refused", "unavailable", "expired"):
            assert scrape.total("corral_requests_total", outcome=outcome) == 0
        assert server.stop() == 0


def test_r8_another_engine_by_reload(artefact_cache: Path, tmp_path: Path) -> None:
    config = tmp_path / "corral.toml"

    def write(*lines: str) -> None:
        config.write_text("\n".join(('precision = "fp32"', *lines, "")))

    # Not real_server: what it names on the command line would win over the file.
    command = [sys.executable, "-m", "corral", "serve", "--port", "0", "--metrics-port", "0"]
    where = ["--cache-dir", str(artefact_cache), "--model", MODEL, "--config", str(config)]
    write('backend = "openvino"')
    with running([*command, *where, "--workers", "1"], ready=False) as server:
        server.wait_until_ready(timeout_s=180)
        with Client(f"127.0.0.1:{server.port}", model=MODEL) as client:
            tensor = np.random.default_rng(1).normal(size=(1, 3, 224, 224)).astype(np.float32)
            before = client.infer(tensor)
            write('backend = "onnxruntime"')
            reply = ask_admin(server, "reload")
            assert reply.exit_code == 0, reply.text
            assert "changed: backend openvino → onnxruntime" in reply.text
            assert client.metadata(MODEL).platform == "corral_onnxruntime"
            np.testing.assert_allclose(client.infer(tensor), before, atol=2e-3)
        worker = status_of(server).workers[0]
        assert worker.engine["engine"] == "onnxruntime"
        write('backend = "onnxruntime"', 'worker-python = "/nowhere/python"')
        reply = ask_admin(server, "reload")
        assert (reply.exit_code, reply.text.partition(":")[0]) == (
            2,
            "--worker-python /nowhere/python",
        )
        assert status_of(server).workers[0].pid == worker.pid
