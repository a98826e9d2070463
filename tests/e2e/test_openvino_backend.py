"""The OpenVINO backend on small networks: right answers, no copies, threads inside the mask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.worker_boot import model_boot, worker_boot

from corral.backends.openvino.runtime import OpenVINOBackend
from corral.backends.registry import create
from corral.backends.telemetry import silence_telemetry
from corral.errors import ConfigError, ModelError
from corral.ipc.messages import WorkerBoot
from corral.ipc.region import Region, create_region
from corral.settings import BackendName, Settings
from corral.tensors import Datatype, Recipe, Signature

_RECIPE = Recipe(resize=36, crop=32, mean=(120.0, 110.0, 100.0), std=(60.0, 50.0, 40.0))
_SIGNATURE = Signature({Datatype.FP32: (3, 32, 32), Datatype.UINT8: (32, 32, 3)}, (6,), _RECIPE)


@pytest.fixture(scope="module")
def xml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An IR: the logits are a convolution's means, [n,6] from [n,3,h,w]."""
    silence_telemetry()
    import openvino as ov
    from openvino import opset13 as ops

    image = ops.parameter([-1, 3, -1, -1], np.float32, name="input")
    kernel = np.random.default_rng(3).normal(size=(6, 3, 3, 3)).astype(np.float32)
    convolved = ops.convolution(image, ops.constant(kernel), [1, 1], [0, 0], [0, 0], [1, 1])
    logits = ops.reduce_mean(ops.relu(convolved), ops.constant([2, 3]), keep_dims=False)
    path = tmp_path_factory.mktemp("ir") / "model.xml"
    ov.save_model(ov.Model([logits], [image]), path, compress_to_fp16=False)
    return path


def _boot(
    xml: Path | None, *, precision: str = "fp32", threads: int = 1, settings: Settings | None = None
) -> WorkerBoot:
    if settings is None:
        # A file that other tests write may be beside it: what is compiled of it is not theirs.
        cache = "/nowhere" if xml is None else str(xml.parent / "cache")
        settings = Settings.flat(backend=BackendName.OPENVINO, cache_dir=cache)
    model = model_boot(None if xml is None else str(xml), precision=precision)
    return worker_boot(_SIGNATURE, settings, model, sizes=[1, 2, 4], threads=threads)


def _region() -> Region:
    return Region(create_region(_SIGNATURE, 4), _SIGNATURE, 4)


def _reference(xml: Path, x: NDArray[np.float32]) -> NDArray[np.float32]:
    import openvino as ov

    compiled = ov.Core().compile_model(xml, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    logits: NDArray[np.float32] = compiled(x)[0]
    return logits


def _pixels(count: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


def _normalised(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    x = (pixels - np.array(_RECIPE.mean)) / np.array(_RECIPE.std)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32)


def test_each_size_answers_from_the_region_into_the_region(xml: Path) -> None:
    backend, region = create(BackendName.OPENVINO), _region()
    backend.load(_boot(xml))
    for count in (1, 2, 4):
        backend.compile(Datatype.FP32, region.inputs(Datatype.FP32, count), region.outputs(count))
    for seed, count in enumerate((4, 1, 2, 4, 1)):
        x = _normalised(_pixels(count, seed))
        region.inputs(Datatype.FP32, count)[:] = x
        region.outputs(count)[:] = np.nan
        backend.run(Datatype.FP32, count)
        np.testing.assert_allclose(region.outputs(count), _reference(xml, x), atol=1e-5)


def test_pixels_are_normalised_inside(xml: Path) -> None:
    backend, region = create(BackendName.OPENVINO), _region()
    backend.load(_boot(xml))
    for count in (1, 4):
        backend.compile(Datatype.UINT8, region.inputs(Datatype.UINT8, count), region.outputs(count))
        for seed in range(2):
            pixels = _pixels(count, seed)
            region.inputs(Datatype.UINT8, count)[:] = pixels
            backend.run(Datatype.UINT8, count)
            expected = _reference(xml, _normalised(pixels))
            np.testing.assert_allclose(region.outputs(count), expected, rtol=1e-4, atol=1e-4)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def test_engine_keeps_no_input_of_its_own(tmp_path: Path) -> None:
    silence_telemetry()
    import openvino as ov
    from openvino import opset13 as ops

    image = ops.parameter([-1, 3, 224, 224], np.float32, name="input")
    mean = ops.reduce_mean(image, ops.constant([2, 3]), keep_dims=False)
    ov.save_model(ov.Model([mean], [image]), tmp_path / "model.xml", compress_to_fp16=False)
    signature = Signature({Datatype.FP32: (3, 224, 224)}, (3,))
    region = Region(create_region(signature, 128), signature, 128)
    region.touch(128)
    backend = create(BackendName.OPENVINO)
    backend.load(_boot(tmp_path / "model.xml"))
    # The first one loads the engine's own libraries.
    for count in (1, 128):
        inputs, outputs = region.inputs(Datatype.FP32, count), region.outputs(count)
        inputs[:] = np.arange(count).reshape(count, 1, 1, 1)
        before_bytes = _resident_bytes()
        backend.compile(Datatype.FP32, inputs, outputs)
        backend.run(Datatype.FP32, count)
        grown_bytes = _resident_bytes() - before_bytes
        np.testing.assert_allclose(outputs[:, 2], np.arange(count))
    assert inputs.nbytes == 77_070_336
    assert grown_bytes < inputs.nbytes / 3


def test_discarded_size_is_gone(xml: Path) -> None:
    backend, region = create(BackendName.OPENVINO), _region()
    backend.load(_boot(xml))
    for count in (1, 2):
        backend.compile(Datatype.FP32, region.inputs(Datatype.FP32, count), region.outputs(count))
    backend.discard(Datatype.FP32, 2)
    with pytest.raises(KeyError):
        backend.run(Datatype.FP32, 2)
    backend.run(Datatype.FP32, 1)


def test_describes_what_the_engine_took(xml: Path) -> None:
    backend, region = create(BackendName.OPENVINO), _region()
    backend.load(_boot(xml))
    backend.compile(Datatype.FP32, region.inputs(Datatype.FP32, 1), region.outputs(1))
    described = backend.describe()
    assert described.pop("version")[:2] == "20"
    assert described.pop("isa")
    assert described == {
        "engine": "openvino",
        "precision": "fp32",
        "arithmetic": "f32",
        "threads": "1",
        "streams": "1",
        "pinning": "on",
    }


def test_workers_that_share_cpus_are_not_pinned(xml: Path) -> None:
    backend, region = create(BackendName.OPENVINO), _region()
    backend.load(_boot(xml, settings=Settings.flat(oversubscribe=True)))
    backend.compile(Datatype.FP32, region.inputs(Datatype.FP32, 1), region.outputs(1))
    assert backend.describe()["pinning"] == "off"


def test_bf16_where_the_cpu_has_it_else_one_line(xml: Path) -> None:
    silence_telemetry()
    import openvino as ov

    backend, region = OpenVINOBackend(), _region()
    if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(ConfigError, match="BF16"):
            backend.load(_boot(xml, precision="bf16"))
        return
    backend.load(_boot(xml, precision="bf16"))
    backend.compile(Datatype.FP32, region.inputs(Datatype.FP32, 1), region.outputs(1))
    assert backend.describe()["arithmetic"] == "bf16"


def test_missing_artefact(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="artefact"):
        create(BackendName.OPENVINO).load(_boot(tmp_path / "model.xml"))
    with pytest.raises(ModelError, match="artefact"):
        create(BackendName.OPENVINO).load(_boot(None))


def test_broken_artefact_is_one_line(xml: Path, tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text(xml.read_text()[:300])
    (tmp_path / "model.bin").write_bytes(xml.with_suffix(".bin").read_bytes())
    with pytest.raises(ModelError, match=r"^the artefact .* cannot be read: [^\n]+$"):
        create(BackendName.OPENVINO).load(_boot(tmp_path / "model.xml"))


def test_artefact_of_another_signature_is_refused(tmp_path: Path) -> None:
    silence_telemetry()
    import openvino as ov
    from openvino import opset13 as ops

    tokens = ops.parameter([-1, 128], np.int64, name="input")
    model = ov.Model([ops.convert(tokens, "f32")], [tokens])
    ov.save_model(model, tmp_path / "model.xml")
    with pytest.raises(ModelError, match="FP32"):
        create(BackendName.OPENVINO).load(_boot(tmp_path / "model.xml"))


def test_shape_that_the_model_refuses(xml: Path) -> None:
    backend = create(BackendName.OPENVINO)
    backend.load(_boot(xml))
    inputs, outputs = np.zeros((1, 4, 32, 32), np.float32), np.zeros((1, 6), np.float32)
    with pytest.raises(ModelError, match=r"FP32 \[1, 4, 32, 32\]"):
        backend.compile(Datatype.FP32, inputs, outputs)


_PINNED = """
import json, os, sys
cpu = max(os.sched_getaffinity(0))
os.sched_setaffinity(0, {cpu})
import msgspec, numpy as np
from corral.backends.registry import create
from corral.ipc.messages import WorkerBoot
from corral.tensors import Datatype
boot = msgspec.json.decode(sys.stdin.buffer.read(), type=WorkerBoot)
backend = create(boot.settings.engine.backend)
backend.load(boot)
x, y = np.zeros((2, 3, 224, 224), np.float32), np.zeros((2, 6), np.float32)
backend.compile(Datatype.FP32, x, y)
for _ in range(3):
    backend.run(Datatype.FP32, 2)
threads = os.listdir("/proc/self/task")
masks = {thread: sorted(os.sched_getaffinity(int(thread))) for thread in threads}
print(json.dumps({"cpu": cpu, "masks": masks, "threads": backend.describe()["threads"],
                  "intel": os.path.exists(os.path.expanduser("~/intel"))}))
"""


def test_threads_stay_inside_the_process_mask(xml: Path, tmp_path: Path) -> None:
    import msgspec

    done = subprocess.run(
        [sys.executable, "-c", _PINNED],
        input=msgspec.json.encode(_boot(xml)),
        env={**os.environ, "HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        timeout=60,
    )
    seen = json.loads(done.stdout)
    assert set(map(tuple, seen["masks"].values())) == {(seen["cpu"],)}
    assert seen["threads"] == "1"
    assert not seen["intel"]
