"""R8 with a real engine: other weights, and another mode, under load."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from support.running_server import StartServer, wait_until
from support.scenarios.reload import CapacityWatch, ask_admin, serving, status_of
from support.server_counters import Scrape

MODEL = "efficientnet_lite0"


@pytest.mark.long
@pytest.mark.timeout(400)
def test_r8_new_weights_and_another_mode_cost_no_request(
    real_server: StartServer, tmp_path: Path
) -> None:
    config = tmp_path / "corral.toml"
    config.write_text('weights = "synthetic"\n')
    pixels = np.random.default_rng(1).integers(0, 256, (1, 224, 224, 3), np.uint8)
    tensor = triton.InferInput("input", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels)
    stop = threading.Event()

    def ask_on(client: triton.InferenceServerClient) -> list[np.ndarray[Any, Any]]:
        answers = []
        # The rest of the machine is the reload's.
        while not stop.wait(0.03):
            answers.append(client.infer(MODEL, [tensor]).as_numpy("output"))
        return answers

    args = ("--model", MODEL, "--config", str(config), "--workers", "2", "--max-batch", "2")
    pens = ("--cores-per-worker", "1", "--oversubscribe")
    with real_server(*args, *pens, ready=False) as server, ThreadPoolExecutor(2) as pool:
        server.wait_until_ready(timeout_s=180)
        wait_until(lambda: serving(server) == 2, "both workers")
        with (
            triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client,
            CapacityWatch(server, every_s=0.1) as watch,
        ):
            before = client.infer(MODEL, [tensor]).as_numpy("output")
            loops = [pool.submit(ask_on, client) for _ in range(2)]
            try:
                config.write_text('weights = "auto"\n')
                reply = ask_admin(server, "reload")
                assert reply.exit_code == 0, reply.text
                after = client.infer(MODEL, [tensor]).as_numpy("output")
                reply = ask_admin(server, "mode", "throughput")
                assert reply.exit_code == 0, reply.text
            finally:
                stop.set()
            answers = [answer for loop in loops for answer in loop.result()]
            parameters = client.get_model_config(MODEL, as_json=True)["config"]["parameters"]
            told = {name: value["string_value"] for name, value in parameters.items()}
        assert watch.least >= 1
        assert not np.allclose(before, after), "other weights, other answers"
        assert all(
            np.allclose(answer, before, atol=1e-3) or np.allclose(answer, after, atol=1e-3)
            for answer in answers
        ), "every answer is of one model or of the other"
        assert status_of(server).synthetic is False
        assert (told["synthetic"], told["mode"]) == ("false", "throughput")
        scrape = Scrape(server.metrics_port)
        for outcome in ("failed", "refused", "unavailable", "expired"):
            assert scrape.total("corral_requests_total", outcome=outcome) == 0
        assert scrape.total("corral_items_retried_total") == 0
        assert server.stop() == 0
