"""TorchServe: a handler of its own around the engine, HTTP with the tensor's bytes as the body."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from engine import MAX_BATCH, options


def main() -> None:
    """Writes the archive and the configuration, then becomes the Java front."""
    given = options()
    folder = Path(given.folder).absolute()
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "store").mkdir(parents=True)
    here = Path(__file__).parent
    bin_folder = Path(sys.executable).parent
    model_config = folder / "model-config.yaml"
    model_config.write_text(
        f"minWorkers: {given.workers}\nmaxWorkers: {given.workers}\n"
        f"batchSize: {MAX_BATCH}\nmaxBatchDelay: 1\nresponseTimeout: 120\n"
    )
    subprocess.run(
        [
            bin_folder / "torch-model-archiver", "--force", "--model-name", "resnet50",
            "--version", "1", "--handler", here / "torchserve_handler.py",
            "--extra-files", here / "engine.py", "--config-file", model_config,
            "--export-path", folder / "store",
        ],
        check=True,
    )  # fmt: skip
    (folder / "config.properties").write_text(
        f"inference_address=http://127.0.0.1:{given.port}\n"
        "management_address=http://127.0.0.1:0\nmetrics_address=http://127.0.0.1:0\n"
        "grpc_inference_port=0\ngrpc_management_port=0\n"
        f"model_store={folder / 'store'}\nload_models=resnet50.mar\n"
        "disable_token_authorization=true\nenable_metrics_api=false\n"
        "job_queue_size=1000\ndisable_system_metrics=true\ninstall_py_dep_per_model=false\n"
    )
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "PEER_MODEL": given.model,
        "PEER_THREADS": str(given.threads),
        "LOG_LOCATION": str(folder / "logs"),
        "METRICS_LOCATION": str(folder / "logs"),
        "TEMP": str(folder),
        "TS_CONFIG_FILE": str(folder / "config.properties"),
    }
    binary = bin_folder / "torchserve"
    command = [
        str(binary), "--start", "--foreground", "--ncs", "--disable-token-auth",
        "--model-store", str(folder / "store"), "--models", "resnet50=resnet50.mar",
        "--ts-config", str(folder / "config.properties"),
    ]  # fmt: skip
    os.chdir(folder)
    os.execve(binary, command, environment)


if __name__ == "__main__":
    main()
