"""A client that asks one thing over and over: ``python load.py PORT PATH INPUTS N``.

INPUTS is JSON: name, shape and datatype of each. N connections, one request at a time on each, over
HTTP with tensors in binary. It begins with a
line "first" once an answer came, and ends when standard input does: then it prints, as JSON, when
each request began and ended, seconds on the monotonic clock. Uses nothing of corral's.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import sys
import threading
import time

_SIZES = {"FP64": 8, "INT64": 8, "UINT64": 8, "FP32": 4, "INT32": 4, "UINT32": 4}
_SIZES |= {"FP16": 2, "BF16": 2, "INT16": 2, "UINT16": 2, "INT8": 1, "UINT8": 1, "BOOL": 1}


def _tensor(shape: list[int], datatype: str) -> bytes:
    """Small numbers that are finite whatever they are; ones where they may be indexes."""
    size, count = _SIZES[datatype], math.prod(shape)
    if "INT" in datatype and datatype != "UINT8":
        return (1).to_bytes(size, "little") * count
    if datatype == "BOOL":
        return b"\1" * count
    pattern = bytes(i % 61 for i in range(1024))
    return (pattern * (size * count // 1024 + 1))[: size * count]


def _message(inputs: list[tuple[str, list[int], str]]) -> tuple[bytes, dict[str, str]]:
    """Body and head of the request for inputs by name, shape and datatype."""
    tensors = [_tensor(shape, datatype) for _, shape, datatype in inputs]
    described = [
        {
            "name": name,
            "shape": shape,
            "datatype": datatype,
            "parameters": {"binary_data_size": len(tensor)},
        }
        for (name, shape, datatype), tensor in zip(inputs, tensors, strict=True)
    ]
    asked = {"inputs": described, "parameters": {"binary_data_output": True}}
    head = json.dumps(asked).encode()
    headers = {
        "Inference-Header-Content-Length": str(len(head)),
        "Content-Type": "application/octet-stream",
    }
    return head + b"".join(tensors), headers


class _Clients:
    """Connections that each ask one thing after another, until they are told to stop."""

    def __init__(self, port: int, path: str, message: tuple[bytes, dict[str, str]]) -> None:
        self._port = port
        self._path = path
        self._message = message
        self.done: list[list[float]] = []
        self.stop = threading.Event()
        self.first = threading.Event()

    def ask(self) -> None:
        """One connection's life; one that breaks ends the process, which others would wait for."""
        try:
            self._ask()
        except (OSError, http.client.HTTPException) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self.stop.is_set():
            begun_s = time.monotonic()
            connection.request("POST", self._path, *self._message)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                print(body[:500].decode(errors="replace"), file=sys.stderr, flush=True)
                os._exit(1)
            self.done.append([begun_s, time.monotonic()])
            self.first.set()


def main() -> None:
    """Asks until standard input ends."""
    port, path, inputs, count = sys.argv[1:]
    clients = _Clients(int(port), path, _message(json.loads(inputs)))
    threads = [threading.Thread(target=clients.ask) for _ in range(int(count))]
    for thread in threads:
        thread.start()
    clients.first.wait()
    print("first", flush=True)
    sys.stdin.read()
    clients.stop.set()
    for thread in threads:
        thread.join()
    print(json.dumps(clients.done), flush=True)


if __name__ == "__main__":
    main()
