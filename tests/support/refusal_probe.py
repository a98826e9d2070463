"""How soon a server refuses, seen by a client that has nothing else to do. Run as a program.

``refusal_probe.py PORT`` asks every 20 ms for what a long queue cannot give in time, until its
standard input ends, and prints the seconds that each refusal took as a JSON list. A load
generator that is busy itself would measure its own lateness. ``refusal_probe.py PORT OK`` does
the same with the answers of a server that refuses nothing.
"""

from __future__ import annotations

import json
import select
import sys
import time

import grpc

from support.counted_load import INFER, infer_message

_INTERVAL_S = 0.02
#: shorter than the queue of an overloaded server
_DEADLINE_S = 0.3


def main() -> None:
    """Probes until standard input ends."""
    wanted = sys.argv[2] if len(sys.argv) > 2 else "RESOURCE_EXHAUSTED"
    took_s: list[float] = []
    message = infer_message("probe", 1, 1)
    with grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}") as channel:
        infer = channel.unary_unary(INFER)
        while not select.select([sys.stdin], [], [], _INTERVAL_S)[0]:
            began_s = time.perf_counter()
            status = "OK"
            try:
                infer(message, timeout=_DEADLINE_S)
            except grpc.RpcError as error:
                status = error.code().name
            if status == wanted:
                took_s.append(time.perf_counter() - began_s)
    print(json.dumps(took_s))


if __name__ == "__main__":
    main()
