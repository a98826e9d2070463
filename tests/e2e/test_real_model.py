"""The real model behind the real server, asked by clients that are not ours, and by ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from support.running_server import Server, StartServer

from corral_client import Client
from corral_loadtest.generator import perf_analyzer

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "tests" / "data" / "pictures"
#: the picture is a near tie between these two
CATS = {"tiger cat", "Egyptian cat"}


def test_pictures_get_their_labels(cats: Server) -> None:
    with Client(f"127.0.0.1:{cats.port}", model="efficientnet_lite0") as client:
        cat, coffee = client.classify([PICTURES / "cat.jpg", PICTURES / "coffee.jpg"], k=3)
    assert cat[0].label in CATS
    assert coffee[0].label == "espresso"


def test_the_command_prints_labels(cats: Server) -> None:
    done = subprocess.run(
        [
            Path(sys.executable).parent / "corral-client",
            "classify",
            PICTURES / "coffee.jpg",
            "--url",
            f"127.0.0.1:{cats.port}",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "espresso" in done.stdout
    assert "synthetic" not in done.stderr


def test_tritonclient_gets_the_same_from_encoded_picture_pixels_and_tensor(cats: Server) -> None:
    from corral.images import decode as images
    from corral.models import registry
    from corral.models.pictures import normalise

    recipe = registry.get("efficientnet_lite0").recipe
    encoded = (PICTURES / "coffee.jpg").read_bytes()
    pixels = images.decode(encoded, recipe, 10**7)[np.newaxis]
    inputs = {
        "BYTES": np.array([encoded], dtype=np.object_),
        "UINT8": pixels,
        "FP32": normalise(pixels, recipe),
    }
    outputs = {}
    with triton.InferenceServerClient(f"127.0.0.1:{cats.port}") as client:
        for datatype, array in inputs.items():
            tensor = triton.InferInput("input", list(array.shape), datatype)
            tensor.set_data_from_numpy(array)
            outputs[datatype] = client.infer("efficientnet_lite0", [tensor]).as_numpy("output")
    assert outputs["FP32"].argmax() == 967
    np.testing.assert_array_equal(outputs["BYTES"], outputs["UINT8"])
    np.testing.assert_allclose(outputs["UINT8"], outputs["FP32"], atol=1e-3)


def test_a_batch_answers_what_each_picture_alone_does(cats: Server) -> None:
    from corral.models.pictures import draw_pictures

    pixels = draw_pictures(5, seed=7, size=224)
    with Client(f"127.0.0.1:{cats.port}", model="efficientnet_lite0") as client:
        together = client.infer(pixels)
        alone = np.concatenate([client.infer(pixels[i : i + 1]) for i in range(5)])
    np.testing.assert_array_equal(together, alone)


def test_what_took_hold_is_reported(cats: Server) -> None:
    shown = cats.wait_for_line(r"^ \S+ +\d+ .* MB").string
    assert "tcmalloc" in shown or "apt-get install" in cats.stderr
    assert "outside" not in cats.stderr


@pytest.mark.timeout(300)
def test_synthetic_weights_are_said_loudly_and_answers_differ(real_server: StartServer) -> None:
    from corral.models.pictures import draw_pictures

    # Batches of one alone are compiled and measured: eight pictures are eight of them.
    with real_server("--weights", "synthetic", "--max-batch", "1", ready=False) as s:
        s.wait_until_ready(timeout_s=240)
        s.wait_for_line("SYNTHETIC")
        with Client(f"127.0.0.1:{s.port}") as client:
            assert client.metadata("resnet50").synthetic
            logits = client.infer(draw_pictures(8, seed=3, size=224))
        assert len(set(logits.argmax(axis=1).tolist())) > 3


def test_perf_analyzer_runs_unmodified(cats: Server) -> None:
    try:
        binary = perf_analyzer.install(ROOT / ".cache" / "perf_analyzer")
    except perf_analyzer.Missing as reason:
        pytest.skip(str(reason))
    found = perf_analyzer.measure(
        binary, f"127.0.0.1:{cats.port}", "efficientnet_lite0_uint8", 2, window_ms=700
    )
    assert found.requests_per_s > 1
