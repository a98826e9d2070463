"""Tries the example on one machine: a Ray cluster of two nodes, a corral on each, one is killed.

    python try_two_nodes.py PICTURE

Prints how many requests each server answered, and how many failed while one was dead.
"""

from __future__ import annotations

import collections
import concurrent.futures
import http.client
import json
import os
import signal
import sys
import time
from pathlib import Path

os.environ.setdefault("CORRAL_RAY_CPUS", "1")
os.environ.setdefault("CORRAL_RAY_OPTIONS", "--backend null --workers 1")

HERE = Path(__file__).resolve().parent

try:
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster
except ModuleNotFoundError as missing:
    sys.exit(
        f"try_two_nodes.py: {missing.name} is not installed: "
        f"{sys.executable} -m pip install 'ray[serve]' '{HERE.parents[1]}[serve,openvino,torch]'"
    )


def ask(picture: bytes, port: int) -> int:
    """The pid of the server that answered; 0 for a failure."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/", picture)
        answer = connection.getresponse()
        text = answer.read()
    except OSError:
        return 0
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        return 0
    found = json.loads(text)
    assert len(found["labels"]) == 5
    return int(found["server"])


def load(picture: bytes, port: int, count: int) -> collections.Counter[int]:
    """Answers by server, of ``count`` requests, eight at a time."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return collections.Counter(pool.map(lambda _: ask(picture, port), range(count)))


def main() -> None:
    """Starts the cluster, spreads, kills, spreads again."""
    picture = Path(sys.argv[1]).read_bytes()
    sys.path.insert(0, str(HERE))
    os.environ["PYTHONPATH"] = f"{HERE}:{os.environ.get('PYTHONPATH', '')}"
    # The head runs Ray's proxy and controller, each node one replica.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address)
    from serve_corral import app

    serve.start(http_options={"host": "127.0.0.1", "port": 8077})
    serve.run(app)
    spread = load(picture, 8077, 200)
    print(f"two nodes: {dict(spread)}")
    assert len(spread) == 2 and 0 not in spread
    victim = next(iter(spread))
    os.kill(victim, signal.SIGKILL)
    killed = load(picture, 8077, 200)
    print(f"one server killed: {dict(killed)} (0: failed)")
    deadline_s = time.monotonic() + 60
    while len(again := load(picture, 8077, 100)) < 2 or 0 in again or victim in again:
        assert time.monotonic() < deadline_s, again
        time.sleep(1)
    print(f"two again: {dict(again)}")
    serve.shutdown()
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
