"""Mutated requests of the REST form, by the thousand. Everything follows from a seed."""

from __future__ import annotations

import gzip
import http.client
import json
import random
from collections import Counter
from collections.abc import Iterator

from support.fuzzing import mutate, picture_seeds

#: what a request may be answered with, however broken; 500 is not among them
EXPECTED = frozenset({200, 400, 404, 405, 411, 413, 415, 429, 501, 503, 504})
_ITEM_BYTES = 224 * 224 * 3
_WORDS = (
    *(b"null", b"[", b"]", b"{", b"}", b'"', b",", b"1e999", b"-1", b"true", b"NaN", b"\xff"),
    *(b"\\ud800", b"9" * 30, b'"data":[1],', b'"shape":[],', b'"shared_memory_region":"a",'),
)
_TYPES = ("multipart/form-data; boundary=x", "multipart/form-data", "image/png", "text/html", "")
_PATHS = (
    *("/v2/repository/index", "/v2/systemsharedmemory/region/r/register", "/v2/models/%ff/infer"),
    *("/v2/models/resnet50_uint8/classify", "/v2/models/stats", "/v2/models/resnet50/versions/2"),
)
Request = tuple[str, bytes, dict[str, str]]


def _binary_header() -> bytes:
    tensor = {"name": "input", "shape": [1, 224, 224, 3], "datatype": "UINT8"}
    output = {"name": "output", "parameters": {"classification": 3, "binary_data": True}}
    page = {
        "id": "x",
        "inputs": [{**tensor, "parameters": {"binary_data_size": _ITEM_BYTES}}],
        "parameters": {"binary_data_output": True, "timeout": 20_000_000},
        "outputs": [output],
    }
    return json.dumps(page).encode()


def _json_body() -> bytes:
    tensor = {"name": "input", "shape": [1, 1], "datatype": "BYTES", "data": ["/9j/4AAQ"]}
    return json.dumps({"inputs": [{**tensor, "parameters": {"content_type": "base64"}}]}).encode()


def _words(random_: random.Random, text: bytes) -> bytes:
    """The text with words of JSON in the wrong places."""
    made = bytearray(text)
    for _ in range(random_.randint(1, 3)):
        at = random_.randrange(len(made) + 1)
        made[at:at] = random_.choice(_WORDS)
    return bytes(made)


def fuzzed(seed: int, count: int) -> Iterator[Request]:
    """So many requests: path, body, header fields."""
    random_ = random.Random(seed)
    header, body, pictures = _binary_header(), _json_body(), picture_seeds()
    for _ in range(count):
        fields = {}
        change = random_.choice((mutate, _words))
        kind = random_.random()
        path = "/v2/models/resnet50/infer"
        if kind < 0.4:
            text = change(random_, header)
            sent = text + bytes(_ITEM_BYTES)
            length = len(text) if random_.random() < 0.9 else random_.randrange(2_000)
            fields["Inference-Header-Content-Length"] = str(length)
        elif kind < 0.7:
            sent = change(random_, body)
        elif kind < 0.9:
            sent = mutate(random_, random_.choice(pictures))
            path = f"/v2/models/resnet50/classify?k={random_.choice(('1', '1001', 'x', ''))}"
        else:
            sent = change(random_, b'{"key":"/x","offset":0,"byte_size":1,"ready":true}')
            path = random_.choice(_PATHS)
        if random_.random() < 0.1:
            fields["Content-Encoding"] = random_.choice(("gzip", "deflate", "br"))
            sent = mutate(random_, gzip.compress(sent, 1)) if random_.random() < 0.7 else sent
        if random_.random() < 0.1:
            fields["Content-Type"] = random_.choice(_TYPES)
        yield path, sent, fields


def fuzz(port: int, *, seed: int, count: int) -> Counter[int]:
    """Sends them over one connection, and makes another where the server closes it.

    Returns:
        the answers by status; each that is none of 200 is one sentence of JSON.
    """
    statuses: Counter[int] = Counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for path, body, fields in fuzzed(seed, count):
        connection.request("POST", path, body, fields)
        answer = connection.getresponse()
        content = answer.read()
        statuses[answer.status] += 1
        if answer.status != 200:
            assert list(json.loads(content)) == ["error"], content
    connection.close()
    return statuses
