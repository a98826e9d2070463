"""The example's detectors: boxes, scores and labels, for tensors and pictures."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray
from support.running_server import StartServer

from corral.accuracy import compare_outputs
from corral.backends.boxes import compare_tensors
from corral.images.decode import decode
from corral.lab.ladder.results import Ladder
from corral.models.custom import read
from corral.models.evaluation import guard_pictures
from corral.models.pictures import normalise
from corral_client import Client

# torch is imported by three processes on the way: slow beside other tests.
pytestmark = pytest.mark.timeout(300)

_ROOT = Path(__file__).parents[2]
_CAT = _ROOT / "tests" / "data" / "pictures" / "cat.jpg"
_SIDE = 128


@pytest.fixture(scope="module")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detectors")
    script = _ROOT / "examples" / "detector" / "make_models.py"
    command = [sys.executable, str(script), "--out", str(folder), "--side", str(_SIDE)]
    subprocess.run(command, check=True, timeout=280, env=dict(os.environ))
    return folder


@pytest.mark.parametrize(
    ("name", "backend", "labels"), [("ssd", "openvino", 90), ("yolo", "onnxruntime", 80)]
)
def test_a_detector_answers_with_boxes_scores_and_labels(
    real_server: StartServer, detectors: Path, name: str, backend: str, labels: int
) -> None:
    import onnxruntime

    path = detectors / f"{name}.onnx"
    spec = read(path)
    pixels = decode(memoryview(_CAT.read_bytes()), spec.recipe, 10**7)
    tensor = normalise(pixels[np.newaxis], spec.recipe)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = dict(
        zip(("boxes", "scores", "labels"), session.run(None, {"images": tensor}), strict=True)
    )
    options = ("--model", str(path), "--backend", backend, "--workers", "1", "--max-batch", "2")
    with real_server(*options, ready=False) as server:
        server.wait_until_ready(timeout_s=240)
        url = f"127.0.0.1:{server.port}"
        with Client(url, model=name) as client:
            answers = [
                client.infer_all({"images": tensor}),
                client.infer_all(pixels[np.newaxis], model=f"{name}_uint8"),
                client.infer_all(_CAT.read_bytes(), model=f"{name}_image"),
            ]
            two = client.infer_all({"images": np.concatenate([tensor, tensor])})
        with triton.InferenceServerClient(url) as client:
            given = triton.InferInput("images", list(tensor.shape), "FP32")
            given.set_data_from_numpy(tensor)
            scores = triton.InferRequestedOutput("scores")
            got = client.infer(name, [given], outputs=[scores])
            assert [output.name for output in got.get_response().outputs] == ["scores"]
            np.testing.assert_allclose(got.as_numpy("scores"), wanted["scores"], atol=1e-3)
        script = _ROOT / "examples" / "detector" / "ask.py"
        command = [sys.executable, str(script), url, name, str(_CAT)]
        printed = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=60
        ).stdout
    assert len(printed.splitlines()) == 5
    for found in answers:
        assert [found[key].shape for key in wanted] == [(1, 100, 4), (1, 100), (1, 100)]
        np.testing.assert_allclose(found["scores"], wanted["scores"], atol=1e-3)
        assert found["labels"].dtype == np.int64
        assert 0 <= found["labels"].min() <= found["labels"].max() < labels
        # Scores that are nearly the same may change places.
        same = np.isclose(found["boxes"], wanted["boxes"], atol=0.5).all(axis=2)
        assert same.mean() > 0.9
    np.testing.assert_allclose(two["scores"][1], answers[0]["scores"][0], atol=1e-3)


@pytest.mark.long
def test_a_detector_climbs_the_ladder(
    detectors: Path, artefact_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [
        *(sys.executable, "-m", "corral", "ladder", "--model", str(detectors / "yolo.onnx")),
        *("--rungs", "eager,onnxruntime,openvino", "--repeats", "1", "--seconds", "0.05"),
        *("--cache-dir", str(artefact_cache), "--out", str(tmp_path)),
    ]
    subprocess.run(command, check=True, timeout=280, env={**os.environ, "CORRAL_OFFLINE": "1"})
    ladder = msgspec.json.decode((tmp_path / "ladder-yolo.json").read_bytes(), type=Ladder)
    eager, onnx, openvino = ladder.rungs
    assert "runs the zoo's models only" in eager.reason
    assert [size.batch for size in onnx.sizes] == [1, 8]
    # The first that ran is what the others are held against.
    assert onnx.fidelity is None
    assert openvino.fidelity is not None
    # Behind the sort, boxes of scores that are nearly the same change places.
    assert openvino.fidelity.output.endswith(" before the sort")
    if openvino.settings["precision"] == "fp32":
        assert openvino.fidelity.snr_db > 60
        return
    # On a CPU with BF16 the rung is in BF16. Its noise is what BF16 of this network has without
    # corral, in its engine and in another's; the sort makes more of it.
    file = detectors / "yolo.onnx"
    inputs = guard_pictures(read(file), openvino.fidelity.crops)
    found = openvino.fidelity.snr_db
    exact, coarse = (_by_openvino(file, inputs, hint) for hint in ("f32", "bf16"))
    behind = compare_tensors(exact, coarse)
    assert found > behind.snr_db + 3
    monkeypatch.syspath_prepend(str(_ROOT / "examples" / "detector"))
    raw, by_torch = _without_a_sort(tmp_path / "raw.onnx", inputs)
    answers = [_by_openvino(raw, inputs, hint)["output0"] for hint in ("f32", "bf16")]
    assert found == pytest.approx(_of_scores(*answers), abs=0.1)
    assert found == pytest.approx(_of_scores(answers[0], by_torch), abs=1)


def _by_openvino(
    file: Path, inputs: NDArray[np.generic], hint: str
) -> dict[str, NDArray[np.float32]]:
    """Each float output's answers by its name, one picture at a time, in this precision."""
    import openvino as ov

    compiled = ov.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    ports = [port for port in compiled.outputs if port.element_type == ov.Type.f32]
    rows = [[answer[port] for port in ports] for answer in map(compiled, inputs[:, np.newaxis])]
    answers = map(np.concatenate, zip(*rows, strict=True))
    return dict(zip((port.any_name for port in ports), answers, strict=True))


def _without_a_sort(file: Path, inputs: NDArray[np.generic]) -> tuple[Path, NDArray[np.float32]]:
    """The network with all places for its answer, as a file; and torch's answers in BF16."""
    import torch

    make_models = importlib.import_module("make_models")
    network = make_models.Yolo(_SIDE, raw=True)
    make_models.seed_weights(network, _SIDE, 1)
    make_models.export(network, file, _SIDE, ("output0",))
    coarse = network.to(torch.bfloat16)
    with torch.no_grad():
        rows = [coarse(torch.from_numpy(item[np.newaxis]).bfloat16()).float() for item in inputs]
    return file, torch.cat(rows).numpy()


def _of_scores(exact: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """SNR in dB; four numbers of a place are its box."""
    return compare_outputs({"scores": exact[:, 4:]}, {"scores": other[:, 4:]}).snr_db
