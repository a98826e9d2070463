"""The raw engine: the artefact in one process on the CPUs it is given, with no server.

``python -m corral_loadtest.raw MODEL.xml SECONDS`` prints as JSON: images/s, percentiles in
milliseconds, CPU milliseconds an image, memory (PSS, MiB), the seconds from its own start to the
first image, and the first image's best class. This is what a server is measured against.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time

import numpy as np

from corral_loadtest import process_tree

WARM_UP = 5


def main() -> None:
    """Runs batches of one, one after another, for the seconds asked for."""
    # Importing openvino would send a usage event, and leave a file in the home folder.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    begin_s = time.perf_counter()
    import openvino

    path, seconds = sys.argv[1], float(sys.argv[2])
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([1, *list(model.input(0).get_partial_shape())[1:]])
    compiled = core.compile_model(
        model,
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
            "INFERENCE_PRECISION_HINT": "f32",
        },
    )
    request = compiled.create_infer_request()
    shape = tuple(compiled.input(0).shape)
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    request.set_input_tensor(openvino.Tensor(array, shared_memory=True))
    request.infer()
    ready_s = time.perf_counter() - begin_s
    top1 = int(request.get_output_tensor(0).data.argmax())
    for _ in range(WARM_UP):
        request.infer()
    times_s: list[float] = []
    used_s = time.process_time()
    end_s = time.perf_counter() + seconds
    while (start_s := time.perf_counter()) < end_s:
        request.infer()
        times_s.append(time.perf_counter() - start_s)
    used_s = time.process_time() - used_s
    ordered = sorted(times_s)
    print(
        json.dumps(
            {
                "images_per_s": len(times_s) / sum(times_s),
                "p50_ms": statistics.median(times_s) * 1000,
                "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000,
                "cpu_ms": used_s / len(times_s) * 1000,
                "memory_mib": process_tree.memory_mib(os.getpid()),
                "start_s": ready_s,
                "top1": top1,
            }
        )
    )


if __name__ == "__main__":
    main()
