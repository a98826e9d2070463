"""MLServer: its gRPC front, one process a worker, adaptive batching."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from engine import MAX_BATCH, options


def main() -> None:
    """Writes the model's folder, then becomes ``mlserver start``."""
    given = options()
    folder = Path(given.folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = {
        "host": "127.0.0.1",
        "grpc_port": given.port,
        "http_port": 0,
        "metrics_endpoint": None,
        "parallel_workers": given.workers,
        "grpc_max_message_length": 64 * 2**20,
        "debug": False,
    }
    model = {
        "name": "resnet50",
        "implementation": "mlserver_model.ResNet50",
        "max_batch_size": MAX_BATCH,
        # Batching is off unless a batch may wait; a millisecond is the least that it is given here.
        "max_batch_time": 0.001,
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 3, 224, 224]}],
        "outputs": [{"name": "output", "datatype": "FP32", "shape": [-1, 1000]}],
        "parameters": {"uri": given.model, "extra": {"threads": given.threads}},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    here = str(Path(__file__).parent)
    binary = Path(sys.executable).with_name("mlserver")
    os.execve(binary, [str(binary), "start", str(folder)], {**os.environ, "PYTHONPATH": here})


if __name__ == "__main__":
    main()
