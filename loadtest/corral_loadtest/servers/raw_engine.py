"""The raw engine: the artefact in one process on the CPUs it is given, with no server.

``python -m corral_loadtest.servers.raw_engine MODEL.xml SECONDS [fp32|uint8|jpeg]`` prints as
JSON: images/s, percentiles in milliseconds, CPU milliseconds an image, memory (PSS, MiB), the
seconds from its own start to the first image, and the first image's best class. Servers are
measured against this. Pictures are decoded, scaled and cropped by Pillow, each before it is run, as
a script without a server would do it.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from corral_loadtest.generator import payload
from corral_loadtest.servers import process_tree
from corral_loadtest.specification import InputKind, Payload

WARM_UP = 5
_RESIZE, _CROP = 256, 224
# ImageNet's, in pixel units, as every ResNet50 checkpoint was trained with.
_MEAN, _STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def decoded(encoded: bytes) -> NDArray[np.uint8]:
    """A picture as UINT8 [224,224,3]: the shorter side to 256, the centre cut, in one step."""
    picture = Image.open(io.BytesIO(encoded))
    picture.draft("RGB", (_RESIZE, _RESIZE))
    width, height = picture.size
    side = min(width, height) * _CROP / _RESIZE
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    size = (_CROP, _CROP)
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR, box=box).convert("RGB"))


def _pixels_in(model: Any) -> Any:
    """The model with its normalisation inside: the input becomes UINT8 [n,h,w,3]."""
    import openvino
    from openvino.preprocess import PrePostProcessor

    chain = PrePostProcessor(model)
    chain.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    chain.input().model().set_layout(openvino.Layout("NCHW"))
    steps = chain.input().preprocess().convert_element_type(openvino.Type.f32)
    steps.mean(_MEAN).scale(_STD).convert_layout(openvino.Layout("NCHW"))
    return chain.build()


def _fill(kind: InputKind, array: NDArray[Any]) -> Callable[[], None]:
    """What brings the next picture into the engine's input."""
    random = np.random.default_rng(0)
    if kind is InputKind.JPEG:
        picture = payload.picture(Payload(), random)

        def fill() -> None:
            array[0] = decoded(picture)

        return fill
    if kind is InputKind.UINT8:
        array[:] = random.integers(0, 256, array.shape, dtype=np.uint8)
    else:
        array[:] = random.standard_normal(array.shape).astype(np.float32)
    return lambda: None


def _compiled(path: str, kind: InputKind) -> Any:
    """The artefact for batches of one, on all CPUs of this process."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    if kind is not InputKind.FP32:
        model = _pixels_in(model)
    model.reshape([1, *list(model.input(0).get_partial_shape())[1:]])
    return core.compile_model(
        model,
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
            "INFERENCE_PRECISION_HINT": "f32",
        },
    )


def _timed(step: Callable[[], None], seconds: float) -> tuple[list[float], float]:
    """Times of steps one after another, and the CPU time of all of them, in seconds."""
    times_s: list[float] = []
    used_s = time.process_time()
    end_s = time.perf_counter() + seconds
    while (start_s := time.perf_counter()) < end_s:
        step()
        times_s.append(time.perf_counter() - start_s)
    return times_s, time.process_time() - used_s


def main() -> None:
    """Runs batches of one, one after another, for the seconds asked for."""
    # Importing openvino would send a usage event, and leave a file in the home folder.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    begin_s = time.perf_counter()
    import openvino

    path, seconds = sys.argv[1], float(sys.argv[2])
    kind = InputKind(sys.argv[3]) if len(sys.argv) > 3 else InputKind.FP32
    compiled = _compiled(path, kind)
    request = compiled.create_infer_request()
    shape = tuple(compiled.input(0).shape)
    array = np.empty(shape, np.float32 if kind is InputKind.FP32 else np.uint8)
    fill = _fill(kind, array)
    request.set_input_tensor(openvino.Tensor(array, shared_memory=True))

    def step() -> None:
        fill()
        request.infer()

    step()
    ready_s = time.perf_counter() - begin_s
    top1 = int(request.get_output_tensor(0).data.argmax())
    for _ in range(WARM_UP):
        step()
    times_s, used_s = _timed(step, seconds)
    figures = {
        "images_per_s": len(times_s) / sum(times_s),
        "p50_ms": statistics.median(times_s) * 1000,
        "p99_ms": sorted(times_s)[int(len(times_s) * 0.99)] * 1000,
        "cpu_ms": used_s / len(times_s) * 1000,
        "memory_mib": process_tree.memory_mib(os.getpid()),
        "start_s": ready_s,
        "top1": top1,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
