"""Runs a script's cases with the client's interpreter. Standard library only.

Called with one argument, a ``Servers`` as JSON. Prints a JSON line a case: its name, and what went
wrong or null.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import json
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: a case that takes longer hangs
LONGEST_S = 60


@dataclasses.dataclass(frozen=True)
class Servers:
    """Where the servers are, and what the cases need besides.

    Attributes:
        grpc: HOST:PORT of a null server, which answers with each item's first value.
        http: the same server over HTTP.
        metrics: HOST:PORT of its metrics.
        model: the model's name there, "resnet50".
        cats_grpc: HOST:PORT of the real model.
        cats_http: the same server over HTTP.
        cats_model: the model's name there.
        picture: path of a JPEG of a cat.
        protos: folder of the protocol's .proto files.
        home: folder of the environments, and of what a case wants to write.
    """

    grpc: str
    http: str
    metrics: str
    model: str
    cats_grpc: str
    cats_http: str
    cats_model: str
    picture: str
    protos: str
    home: str

    def encoded(self) -> bytes:
        """The picture's bytes."""
        return Path(self.picture).read_bytes()


#: what the real model may call the picture
CATS = ("tiger cat", "Egyptian cat", "tabby")


@contextlib.contextmanager
def raises(kind: type[BaseException], *texts: str) -> Iterator[None]:
    """Expects an error of that kind whose text holds all the texts, whatever their case."""
    try:
        yield
    except kind as error:
        for text in texts:
            assert text.lower() in str(error).lower(), f"{text!r} is not in: {error}"
        return
    raise AssertionError(f"no {kind.__name__} was raised")


def _late(*_: object) -> None:
    raise TimeoutError("the case was not done in its time")


def run(namespace: dict[str, Any], longest_s: int = LONGEST_S) -> None:
    """Runs every function whose name begins with works_ or differs_, each for so long at most."""
    servers = Servers(**json.loads(sys.argv[1]))
    signal.signal(signal.SIGALRM, _late)
    for name, case in list(namespace.items()):
        if not name.startswith(("works_", "differs_")):
            continue
        signal.alarm(longest_s)
        wrong = None
        try:
            result = case(servers)
            if inspect.iscoroutine(result):
                asyncio.run(result)
        # Whatever went wrong is the case's result.
        except Exception:
            wrong = traceback.format_exc()
        finally:
            signal.alarm(0)
        print(json.dumps({"case": name, "wrong": wrong}), flush=True)
