"""The same pictures by every way into a server, and how far the answers lie apart.

``python -m support.same_answers`` starts a server for each engine and precision that it is given
and prints the table of docs/precision.md. A way is what is sent (FP32 tensor, UINT8 pixels, JPEG),
over what (gRPC, REST with binary tensors, REST with JSON numbers), alone or all in one batch.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import math
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from corral.images.decode import decode
from corral.models import photos, registry
from corral.models.pictures import normalise
from corral_client import Client, HttpClient
from support.running_server import Server, running

MODEL = "efficientnet_lite0"
PICTURES = 4
#: what a server needs to run them in one batch: a wide one, and one that waits for nothing else
BATCHES = ("--mode", "throughput", "--max-batch", str(PICTURES), "--workers", "1")

#: convolutions and the last layer, one after another, and products in the longest sum of them
_SUMS = {"efficientnet_lite0": (50, 1280), "mobilenet_v2": (53, 1280)}
#: INT8: a rounding in its 24th bit can move an activation to the next of 256 steps. At worst two
#: ways round apart from each other; then they differ by the noise of both, twice that of one
TWICE_DB = 10 * math.log10(2)
#: of answers that do not differ at all
_EXACT_DB = 200.0


def fp32_bound(model: str = MODEL) -> float:
    """Largest difference between two orders of the same FP32 sums, as a share of the largest logit.

    Each addition rounds by at most 2^-24, roundings are as often up as down, so that they grow with
    the root of their number, and at worst every layer adds as much.
    """
    layers, longest = _SUMS[model]
    return 2**-24 * math.sqrt(longest) * layers


Logits = NDArray[np.float32]
Sent = NDArray[np.float32] | NDArray[np.uint8] | bytes | list[bytes]


@dataclasses.dataclass(frozen=True, order=True)
class Way:
    """What is sent, over what, and whether all at once."""

    sent: str
    wire: str
    together: bool

    def __str__(self) -> str:
        return f"{self.sent}, {self.wire}, {'in a batch' if self.together else 'alone'}"


SENT = ("FP32", "UINT8", "JPEG")
WIRES = ("gRPC", "REST", "JSON")
WAYS = tuple(
    Way(*way)
    for way in itertools.product(SENT, WIRES, (False, True))
    # Encoded pictures are no numbers.
    if way[:2] != ("JPEG", "JSON")
)
#: what the others are held against
FIRST = Way("FP32", "gRPC", False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """Between two sets of logits, [n,classes].

    Attributes:
        share: the largest, as a share of the largest logit; 0 where they are bit-equal.
        snr_db: the second against the first, dB.
    """

    share: float
    snr_db: float


def difference(exact: Logits, other: Logits) -> Difference:
    """How far the second lies from the first."""
    assert exact.shape == other.shape
    apart = exact.astype(np.float64) - other
    noise = float(np.square(apart).sum())
    signal = float(np.square(exact.astype(np.float64)).sum())
    snr_db = _EXACT_DB if noise == 0 else 10 * math.log10(signal / noise)
    return Difference(share=float(np.abs(apart).max() / np.abs(exact).max()), snr_db=snr_db)


def inputs(model: str = MODEL) -> dict[str, list[Sent]]:
    """A few of the photographs that ship with corral, one item each, by what is sent."""
    recipe = registry.get(model).recipe
    encoded = [data for _, data in itertools.islice(photos.files(photos.GUARD), PICTURES)]
    pixels = [decode(memoryview(data), recipe, 10**7)[np.newaxis] for data in encoded]
    tensors = [normalise(picture, recipe) for picture in pixels]
    return {"FP32": [*tensors], "UINT8": [*pixels], "JPEG": [*encoded]}


def answers(server: Server, model: str = MODEL) -> dict[Way, Logits]:
    """Each way's logits, [pictures,classes]."""
    found = {}
    given = inputs(model)
    with (
        Client(f"127.0.0.1:{server.port}", model=model) as grpc,
        HttpClient(f"127.0.0.1:{server.http_port}", model=model) as rest,
    ):
        ask: dict[str, Callable[[Sent], Logits]] = {
            "gRPC": grpc.infer,
            "REST": rest.infer,
            "JSON": lambda one: _ask_in_json(server, model, one),
        }
        for way in WAYS:
            items = given[way.sent]
            sent = [_batch(items)] if way.together else items
            found[way] = np.concatenate([ask[way.wire](one) for one in sent])
    return found


def _ask_in_json(server: Server, model: str, items: Sent) -> Logits:
    """Numbers in text, both ways."""
    assert isinstance(items, np.ndarray)
    data: Sequence[float] = items.ravel().tolist()
    if items.dtype == np.float32:
        # Nine digits bring it there exactly; more would not fit into a request's JSON.
        data = [float(f"{value:.9g}") for value in data]
    sent = {
        "name": "input",
        "shape": items.shape,
        "datatype": "FP32" if items.dtype == np.float32 else "UINT8",
        "data": data,
    }
    url = f"http://127.0.0.1:{server.http_port}/v2/models/{model}/infer"
    body = msgspec.json.encode({"inputs": [sent]})
    asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            (output,) = msgspec.json.decode(answer.read())["outputs"]
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode()) from None
    return np.asarray(output["data"], np.float32).reshape(output["shape"])


def _batch(items: Sequence[Sent]) -> Sent:
    encoded = [item for item in items if isinstance(item, bytes)]
    return encoded or np.concatenate([item for item in items if isinstance(item, np.ndarray)])


def largest_batch(server: Server, model: str = MODEL) -> int:
    """Pictures in the largest batch that a worker has run."""
    with Client(f"127.0.0.1:{server.port}", model=model) as client:
        (statistics,) = client.statistics(model)
    return max(statistics.batches)


def check(found: dict[Way, Logits], quantized_db: float | None = None, model: str = MODEL) -> None:
    """Holds every way of one server to the first, and to each other where they must be equal.

    Args:
        found: its answers.
        quantized_db: of INT8, what its answers have against FP32's; None: it is FP32.
        model: whose they are.
    """
    for way, logits in found.items():
        # Batches may be cut where they come, into sizes with other kernels.
        for twin in () if way.together else (*_wire_twins(way), *_picture_twins(way)):
            apart = difference(found[twin], logits)
            assert apart.share == 0, f"{way} is not bit-equal to {twin}: {apart}"
        hold(difference(found[FIRST], logits), str(way), quantized_db, model)


def hold(
    apart: Difference, name: str, quantized_db: float | None = None, model: str = MODEL
) -> None:
    """Fails where a difference is larger than its arithmetic explains."""
    if quantized_db is None:
        most = fp32_bound(model)
        assert apart.share <= most, f"{name}: {apart.share:.1e} > {most:.1e}"
    else:
        least_db = quantized_db - TWICE_DB
        assert apart.snr_db >= least_db, f"{name}: {apart.snr_db:.1f} dB < {least_db:.1f}"


def _wire_twins(way: Way) -> Iterator[Way]:
    """The wire carries the same bytes."""
    if way.wire != "gRPC":
        yield dataclasses.replace(way, wire="gRPC")


def _picture_twins(way: Way) -> Iterator[Way]:
    """A JPEG is the pixels that it holds."""
    if way.sent == "JPEG":
        yield dataclasses.replace(way, sent="UINT8")


def _input_twins(way: Way) -> Iterator[Way]:
    """The normalisation is in the graph, or was done by the client."""
    if way.sent == "UINT8":
        yield dataclasses.replace(way, sent="FP32")


def _batch_twins(way: Way) -> Iterator[Way]:
    """Kernels differ by the batch's size."""
    if way.together:
        yield dataclasses.replace(way, together=False)


_COLUMNS: dict[str, Callable[[Way], Iterator[Way]]] = {
    "REST, JSON for gRPC": _wire_twins,
    "JPEG for its pixels": _picture_twins,
    "pixels for FP32 tensors": _input_twins,
    f"{PICTURES} in a batch for each alone": _batch_twins,
}


def table(rows: dict[str, dict[Way, Logits]]) -> str:
    """Markdown: a row an engine; largest differences as shares of the largest logit, and dB."""
    exact = next(iter(rows.values()))[FIRST]
    lines = [
        f"| served | {' | '.join(_COLUMNS)} | {next(iter(rows))}, {FIRST} |",
        "| --- " * (len(_COLUMNS) + 2) + "|",
    ]
    for name, found in rows.items():
        cells = []
        for twins in _COLUMNS.values():
            apart = [difference(found[twin], found[way]) for way in found for twin in twins(way)]
            cells.append(_cell(max(apart, key=lambda each: each.share)))
        cells.append(_cell(difference(exact, found[FIRST])))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(apart: Difference) -> str:
    return "equal" if apart.share == 0 else f"{apart.share:.1e} ({apart.snr_db:.0f} dB)"


def main() -> None:
    """Measures what the arguments name, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("served", nargs="*", help="ENGINE-PRECISION, FP32 first: openvino-int8")
    parser.add_argument("--model", default=MODEL, choices=sorted(_SUMS))
    parser.add_argument("--cache-dir", default=".cache/e2e")
    args = parser.parse_args()
    default = [f"{e}-{p}" for e in ("openvino", "onnxruntime") for p in ("fp32", "int8")]
    served = args.served or [*default, "torch-fp32"]
    if not served[0].endswith("-fp32"):
        parser.error(f"{served[0]}: the first is what the others are held against, and is FP32")
    rows = {}
    for name in served:
        backend, precision = name.split("-")
        # A graph for each batch size would be minutes of a compiler.
        mode = ("--torch-mode", "eager") if backend == "torch" else ()
        command = [sys.executable, "-m", "corral", "serve", "--port", "0", "--metrics-port", "0"]
        options = ["--model", args.model, "--backend", backend, "--precision", precision, *mode]
        with contextlib.ExitStack() as stack:
            options += ["--cache-dir", args.cache_dir, *BATCHES]
            server = stack.enter_context(running([*command, *options], ready=False))
            server.wait_until_ready(timeout_s=600)
            rows[f"{backend} {precision}"] = answers(server, args.model)
            whole = largest_batch(server, args.model) == PICTURES
            assert whole, f"{name} has run no batch of {PICTURES}"
        exact, found = next(iter(rows.values())), rows[f"{backend} {precision}"]
        apart = difference(exact[FIRST], found[FIRST])
        check(found, None if precision == "fp32" else apart.snr_db, args.model)
    print(table(rows))


if __name__ == "__main__":
    main()
