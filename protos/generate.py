"""Generates corral_protos from the .proto files beside it, in a descriptor pool of its own.

Two generated copies of the Open Inference Protocol in protobuf's default pool kill the process
that imports both (tritonclient carries one). A pool of our own avoids it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE / "corral_protos"


def main() -> None:
    """Runs protoc and moves the generated modules into corral's own descriptor pool."""
    files = sorted(HERE.glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{HERE}"]
    command += [f"--python_out={OUT}", f"--mypy_out=quiet:{OUT}", *map(str, files)]
    subprocess.run(command, check=True)
    for file in files:
        _move(OUT / f"{file.stem}_pb2.py")


def _move(generated: Path) -> None:
    text = generated.read_text("utf-8")
    default = "_descriptor_pool.Default()"
    if text.count(default) != 1:
        raise SystemExit(f"{generated}: expected exactly one use of {default}")
    text = text.replace(default, "POOL")
    text = text.replace(
        "from google.protobuf import descriptor_pool as _descriptor_pool\n",
        "from corral_protos.pool import POOL\n",
    )
    generated.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
