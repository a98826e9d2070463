"""How long engines take to start, and whether they answer: ``corral-loadtest starts``.

Each engine is started twice with a cache of its own, empty at first: the first start makes the
artefact and compiles, the second loads what was kept. Both times a picture is sent, and the logits
are compared with the first engine's.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from corral_loadtest.command_line import Parser, check_file, text
from corral_loadtest.engines.served import (
    CASES,
    DEFAULT_CASES,
    ipex_python,
    not_run,
    options_of,
    table_head,
)
from corral_loadtest.generator import channel, payload
from corral_loadtest.result import encode
from corral_loadtest.servers import machine, process_tree
from corral_loadtest.servers.processes import free_port, serving
from corral_loadtest.specification import InputKind, Payload, Target
from corral_protos import open_inference_pb2 as pb

#: the bars: seconds of a second start
MOST_S, MOST_OPENVINO_S = 15.0, 10.0
_HEADINGS = (
    "engine",
    "first start s",
    "second start s",
    "memory MiB",
    "top class",
    "cosine",
    "bar",
)

Logits = NDArray[np.float32]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One engine.

    Attributes:
        name: of the case.
        reason: why it was not measured; empty when it was.
        first_s: from the command to ready, with an empty cache.
        second_s: the same with what the first start left.
        memory_mib: proportional set size of all processes of the second; None if unreadable.
        top_class: number of the largest logit.
        cosine: of the logits to those of the first engine that ran.
    """

    name: str
    reason: str = ""
    first_s: float = 0.0
    second_s: float = 0.0
    memory_mib: float | None = None
    top_class: int = -1
    cosine: float = 0.0

    @property
    def kept(self) -> bool:
        """Whether the second start was as soon as it has to be."""
        most_s = MOST_OPENVINO_S if self.name.startswith("openvino") else MOST_S
        return self.second_s <= most_s


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All rows, and where they were measured."""

    machine: Any
    model: str
    rows: list[Row]


def measure(names: Sequence[str], command: Sequence[str], model: str, ipex: str) -> Iterator[Row]:
    """A row for every case; one that cannot start has the reason instead of figures.

    Args:
        names: keys of ``engines.CASES``.
        command: ``corral serve`` with everything but the engine.
        model: name.
        ipex: interpreter of IPEX's environment.
    """
    exact: Logits | None = None
    for name in names:
        with tempfile.TemporaryDirectory() as cache:
            whole = [*command, "--cache-dir", cache, *options_of(name, ipex)]
            try:
                first_s, _, before = _start(whole, model)
                second_s, memory_mib, logits = _start(whole, model)
            except RuntimeError as error:
                yield Row(name=name, reason=str(error))
                continue
        if cosine(before, logits) < 0.999:
            yield Row(name=name, reason="the second start answers otherwise than the first")
            continue
        exact = logits if exact is None else exact
        yield Row(
            name=name,
            first_s=first_s,
            second_s=second_s,
            memory_mib=memory_mib,
            top_class=int(np.argmax(logits)),
            cosine=cosine(exact, logits),
        )


def _start(command: Sequence[str], model: str) -> tuple[float, float | None, Logits]:
    port = free_port()
    began_s = time.monotonic()
    with serving([*command, "--port", str(port)], port, timeout_s=1800) as pid:
        took_s = time.monotonic() - began_s
        return took_s, process_tree.memory_mib(pid), _answer(f"127.0.0.1:{port}", model)


def _answer(address: str, model: str) -> Logits:
    """The logits of a drawn picture, FP32 [classes]; the same picture each time."""
    target = Target(address=address, model=model)
    opened = channel.open_channel(target)
    try:
        page = channel.model_metadata(opened, target)
        picture = Payload(kind=InputKind.JPEG, distinct=1)
        (message,) = payload.messages(page, picture, target)
        answer = channel.infer_method(opened)(message, timeout=60.0)
    finally:
        opened.close()
    (logits,) = pb.ModelInferResponse.FromString(answer).raw_output_contents
    return np.frombuffer(logits, np.float32)


def cosine(left: Logits, right: Logits) -> float:
    """Of two vectors of the same length."""
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = table_head(_HEADINGS)
    for row in rows:
        if row.reason:
            lines.append(not_run(row.name, row.reason, _HEADINGS))
            continue
        memory = "" if row.memory_mib is None else f"{row.memory_mib:.0f}"
        lines.append(
            f"| {row.name} | {row.first_s:.1f} | {row.second_s:.1f} | {memory} "
            f"| {row.top_class} | {row.cosine:.4f} | {'kept' if row.kept else '**missed**'} |"
        )
    return "\n".join(lines)


def parser() -> Parser:
    """The command line."""
    found = Parser(prog="corral-loadtest starts", description=__doc__)
    add = found.add_argument
    add("--model", type=text, default="resnet50")
    add("--cases", nargs="+", default=DEFAULT_CASES, choices=list(CASES))
    add("--options", default="--weights synthetic --workers 1", help="more of corral's options")
    add("--python", default=sys.executable, help="of corral's environment")
    add("--ipex-python", default=ipex_python())
    add("--json", type=Path, help="write the figures here")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry of the command."""
    options = parser().parse_args(arguments)
    check_file(options.json, "--json")
    command = [options.python, "-m", "corral", "serve", "--http-port", "0", "--metrics-port", "0"]
    command += ["--model", options.model, *options.options.split()]
    rows = []
    for row in measure(options.cases, command, options.model, options.ipex_python):
        said = row.reason or f"{row.first_s:.1f} s, then {row.second_s:.1f} s"
        print(f"{row.name}: {said}", file=sys.stderr)
        rows.append(row)
    print(table(rows))
    if options.json:
        report = Report(machine=machine.describe(), model=options.model, rows=rows)
        options.json.write_bytes(encode(report))
