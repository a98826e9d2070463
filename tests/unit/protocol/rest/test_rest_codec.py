"""Header fields, encodings, forms and answers of the REST form."""

from __future__ import annotations

import contextlib
import functools
import gzip
import itertools
import json
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rest_service import bytes_tensor

from corral import errors
from corral.errors import InvalidRequest, QueueFull, RequestError, TooLarge
from corral.images.header import is_no_picture
from corral.inflate import inflate
from corral.protocol.response import Answer
from corral.protocol.rest import compression, fields, multipart, request, response, statuses
from corral.protocol.shared_memory import Slice


def in_json(answer: Answer) -> bytes:
    body, header_bytes = response.in_parts(answer, [False])
    assert header_bytes == len(body)
    return body


TEXT = b"a body that packs well " * 100


def raw_deflate(data: bytes, level: int = 9) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (TEXT, None),
        (TEXT, "identity"),
        (gzip.compress(TEXT, mtime=0), "gzip"),
        (gzip.compress(TEXT, mtime=0), "X-GZIP"),
        (zlib.compress(TEXT), "deflate"),
        (raw_deflate(TEXT), "deflate"),
        (compression.pack(TEXT, "gzip"), "gzip"),
        (compression.pack(TEXT, "deflate"), "deflate"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bodies_are_unpacked(body: bytes, encoding: str | None) -> None:
    assert bytes(compression.unpack(body, encoding, len(TEXT))) == TEXT


@pytest.mark.parametrize("size", [2**18 - 1, 2**18, 2**18 + 21, 2**18 + 22, 3 * 2**18, 2**24])
def test_zeros_of_any_size_are_unpacked(size: int) -> None:
    """All of a bare stream may have been consumed when as much is out as is unpacked at a time."""
    for packed in (raw_deflate(bytes(size), 1), gzip.compress(bytes(size), mtime=0)):
        encoding = "gzip" if packed[:2] == b"\x1f\x8b" else "deflate"
        assert compression.unpack(packed, encoding, size) == bytes(size)
        with pytest.raises(TooLarge):
            compression.unpack(packed, encoding, size - 1)


@pytest.mark.parametrize(
    ("body", "encoding", "error"),
    [
        (TEXT, "br", statuses.MediaNotTaken),
        (gzip.compress(TEXT, mtime=0), "gzip, gzip", statuses.MediaNotTaken),
        (TEXT, "gzip", InvalidRequest),
        (b"", "gzip", InvalidRequest),
        (b"\x78", "deflate", InvalidRequest),
        (gzip.compress(TEXT, mtime=0)[:-1], "gzip", InvalidRequest),
        (gzip.compress(TEXT, mtime=0) + b"x", "gzip", InvalidRequest),
        (gzip.compress(TEXT, mtime=0) * 2, "gzip", TooLarge),
        (gzip.compress(TEXT, mtime=0) + gzip.compress(b"", mtime=0)[:-1], "gzip", InvalidRequest),
        (gzip.compress(TEXT, mtime=0) + b"\x1f", "gzip", InvalidRequest),
        (gzip.compress(TEXT, mtime=0) + b"\x1f\x8bno more", "gzip", InvalidRequest),
        (gzip.compress(b"", mtime=0) * 5_000, "gzip", InvalidRequest),
        (zlib.compress(TEXT[:9]) * 2, "deflate", InvalidRequest),
        (gzip.compress(TEXT, mtime=0) + bytes(100_000), "gzip", InvalidRequest),
        (gzip.compress(TEXT + b"x", mtime=0), "gzip", TooLarge),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bodies_that_cannot_be_unpacked(
    body: bytes, encoding: str, error: type[RequestError]
) -> None:
    with pytest.raises(error):
        compression.unpack(body, encoding, len(TEXT))


@pytest.mark.parametrize("cut_at", [[], [0], [1, 2, 700], [0, 0, 900, len(TEXT)]])
@pytest.mark.parametrize("piece_bytes", [1, 7, 2**20])
def test_gzip_of_several_members_is_what_they_hold_together(
    cut_at: list[int], piece_bytes: int
) -> None:
    """As `cat a.gz b.gz` and bgzip make it; RFC 1952 calls all of it one file."""
    ends = [0, *cut_at, len(TEXT)]
    packed = b"".join(
        gzip.compress(TEXT[start:end], mtime=0) for start, end in itertools.pairwise(ends)
    )
    pieces = [packed[at : at + piece_bytes] for at in range(0, len(packed), piece_bytes)]
    assert inflate(pieces, 31, len(TEXT)) == TEXT
    assert compression.unpack(packed, "gzip", len(TEXT)) == TEXT
    with pytest.raises(TooLarge):
        compression.unpack(packed, "gzip", len(TEXT) - 1)


def test_a_bomb_of_many_members_costs_no_more_than_the_limit() -> None:
    bomb = gzip.compress(bytes(2**19), 9, mtime=0) * 400
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            compression.unpack(bomb, "gzip", 2**20)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


def test_a_bomb_costs_no_more_than_the_limit() -> None:
    bomb = gzip.compress(bytes(200 * 2**20), 9, mtime=0)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            compression.unpack(bomb, "gzip", 2**20)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("header_bytes", [None, 100])
def test_no_more_of_a_bomb_is_unpacked_than_tells_that_it_is_no_request(
    header_bytes: int | None,
) -> None:
    bomb = gzip.compress(bytes(2**24), mtime=0)
    is_hopeless = functools.partial(compression.is_hopeless_request, header_bytes=header_bytes)
    began = compression.unpack(bomb, "gzip", 2**24, is_hopeless)
    assert len(began) < 2**20
    with pytest.raises(InvalidRequest):
        request.read_form(request.cut(began, header_bytes)[0], "it", "")


@pytest.mark.parametrize(
    ("beginning", "header_bytes"),
    [(b" \r\n\t{", None), (b"{", 1), (b"\n" * 99, None), (b"", None), (b"[" * 9, 10)],
)
def test_what_may_become_a_request_is_unpacked_whole(
    beginning: bytes, header_bytes: int | None
) -> None:
    assert not compression.is_hopeless_request(beginning, header_bytes)


@pytest.mark.parametrize("is_hopeless", [is_no_picture, multipart.is_no_form])
def test_no_more_of_a_bomb_is_unpacked_than_tells_that_it_is_no_picture(
    is_hopeless: Callable[[bytes], bool],
) -> None:
    bomb = gzip.compress(bytes(2**24), mtime=0)
    assert len(compression.unpack(bomb, "gzip", 2**24, is_hopeless)) < 2**20


@pytest.mark.parametrize("start", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_what_may_become_a_picture_is_unpacked_whole(start: bytes) -> None:
    whole = start + bytes(20)
    assert not any(is_no_picture(whole[:end]) for end in range(len(whole)))
    assert not any(multipart.is_no_form(b"--X\r\n"[:end]) for end in range(6))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_unpack_or_are_invalid(body: bytes, encoding: str) -> None:
    with contextlib.suppress(InvalidRequest, TooLarge):
        compression.unpack(body, encoding, 1_000)


def test_fields_come_once_and_lengths_are_digits() -> None:
    found = [(b"a", b" 12 "), (b"b", b"1"), (b"b", b"1")]
    assert fields.single(found, b"a") == "12"
    assert fields.single(found, b"c") is None
    assert fields.bytes_in(b"a", fields.single(found, b"a")) == 12
    for name, value in (
        (b"b", b""),
        (b"c", b"-1"),
        (b"c", b"+1"),
        (b"c", b"1_0"),
        (b"c", b"0x1"),
        (b"c", b""),
        (b"c", b"9" * 400),
        (b"c", "٤".encode()),
    ):
        with pytest.raises(InvalidRequest):
            fields.bytes_in(name, fields.single([*found, (name, value)], name))


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, None),
        ("", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),
        ("deflate;q=1.0, gzip;q=0.5", "deflate"),
        ("gzip;q=0", None),
        ("GZIP ; Q=0.3", "gzip"),
        ("gzip;q = 0.3", None),
        ("gzip;q=x", None),
        ("*", None),
        ("identity", None),
        (",;,gzip", "gzip"),
        ("gzip;q=1.2.3", None),
    ],
)
def test_answers_are_packed_only_where_that_is_asked_for(
    accept: str | None, expected: str | None
) -> None:
    assert fields.accepted_encoding(accept) == expected


def form(*parts: tuple[str, bytes], boundary: str = "XX") -> bytes:
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode()
        + content
        + b"\r\n"
        for head, content in parts
    )
    return body + f"--{boundary}--\r\n".encode()


def test_the_file_of_a_form() -> None:
    picture = b"\xff\xd8--X\r\n-X\r\n\r\nend"
    body = form(('name="k"', b"5"), ('name="f"; filename="cat.jpg"', picture), ('name="x"', b""))
    for content_type in (
        "multipart/form-data; boundary=XX",
        'multipart/form-data; charset=utf-8; Boundary="XX"',
    ):
        found = multipart.only_file(body, content_type)
        assert bytes(found) == picture


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (form(('name="f"; filename="a"', b"x")), "multipart/form-data"),
        (form(('name="f"; filename="a"', b"x")), "multipart/form-data; boundary=YY"),
        (form(('name="f"; filename="a"', b"x"))[:-6], "multipart/form-data; boundary=XX"),
        (form(('name="f"; filename="a"', b"x"))[:-12], "multipart/form-data; boundary=XX"),
        (form(('name="f"', b"x")), "multipart/form-data; boundary=XX"),
        (form(*[('name="f"; filename="a"', b"x")] * 2), "multipart/form-data; boundary=XX"),
        (b"", "multipart/form-data; boundary=XX"),
        (b"--XX\r\n" + b"a" * 5_000 + b"\r\n\r\n\r\n--XX--", "multipart/form-data; boundary=XX"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_forms_that_are_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(InvalidRequest):
        multipart.only_file(body, content_type)


@pytest.mark.parametrize(
    ("part", "parts", "most"),
    [
        (b"\r\n\r\n--XX", 2**18, 256),
        (b"\r\na:" + b";" * 4_000 + b"\r\n\r\n--XX", 512, 16),
    ],
    ids=["tiny parts", "long headers"],
)
def test_no_more_parts_of_a_form_are_looked_at_than_there_may_be(
    monkeypatch: pytest.MonkeyPatch, part: bytes, parts: int, most: int
) -> None:
    """2.7 million of them in one form held the event loop for five seconds."""
    looks = 0

    class Counting:
        def search(self, _head: bytes) -> None:
            nonlocal looks
            looks += 1

    monkeypatch.setattr(multipart, "_FILE", Counting())
    with pytest.raises(InvalidRequest, match="more than"):
        multipart.only_file(b"--XX" + part * parts + b"--", "multipart/form-data; boundary=XX")
    assert looks <= most


@pytest.mark.parametrize("before", [0, 2**20 - 40, 2**20 - 3, 2**20 - 2, 2**20, 2**21 + 5])
def test_a_boundary_is_found_wherever_it_lies(before: int) -> None:
    picture = b"\xff" * before
    body = form(('name="f"; filename="a"', picture))
    found = multipart.only_file(body, "multipart/form-data; boundary=XX")
    assert bytes(found) == picture


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([b"--XX", b"\r\n", b"--", b"filename=", b"a", b":"]), max_size=30))
def test_any_form_has_one_file_or_is_invalid(pieces: list[bytes]) -> None:
    with contextlib.suppress(InvalidRequest):
        multipart.only_file(b"--XX" + b"".join(pieces), "multipart/form-data; boundary=XX")


def test_every_request_error_has_a_status() -> None:
    def below(kind: type[RequestError]) -> set[type[RequestError]]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__()))

    own = {kind for kind in below(errors.RequestError) if kind.__module__.startswith("corral.")}
    missing = [kind for kind in own - {errors.RequestError} if kind not in statuses.STATUSES]
    assert not missing
    assert sorted(statuses.STATUSES.values()) == sorted(set(statuses.STATUSES.values()))


def test_what_goes_with_a_status() -> None:
    said = statuses.fields_of(QueueFull("full", 1_200))
    assert said == [(b"retry-after", b"2"), (b"retry-after-ms", b"1200")]
    assert statuses.fields_of(QueueFull("full", 5))[0] == (b"retry-after", b"1")
    assert statuses.fields_of(errors.Unavailable("x")) == [(b"retry-after", b"1")]
    assert statuses.fields_of(statuses.MethodNotAllowed("PUT", "POST")) == [(b"allow", b"POST")]
    assert statuses.fields_of(errors.Unauthenticated("x")) == [(b"www-authenticate", b"Bearer")]
    assert json.loads(statuses.body_of('a "quote"')) == {"error": 'a "quote"'}


def test_answers_as_json_and_binary() -> None:
    scores = np.array([[1.5, -0.1]], np.float32)
    body, header_bytes = response.binary("m", 'i"d', "FP32", (1, 2), scores.tobytes())
    assert body[header_bytes:] == scores.tobytes()
    page = json.loads(body[:header_bytes])
    assert page["id"] == 'i"d'
    assert page["model_name"] == "m"
    assert page["model_version"] == "1"
    assert page["outputs"] == [
        {
            "name": "output",
            "datatype": "FP32",
            "shape": [1, 2],
            "parameters": {"binary_data_size": 8},
        }
    ]
    plain = json.loads(in_json(Answer("m", "", "FP32", (1, 2), scores.tobytes())))
    assert "id" not in plain
    assert np.array(plain["outputs"][0]["data"], np.float32).tolist() == scores[0].tolist()
    labels = bytes_tensor(b"1.5:7:a:b", b"0.5:3")
    page = json.loads(in_json(Answer("m", "", "BYTES", (1, 2), labels)))
    assert page["outputs"][0]["data"] == ["1.5:7:a:b", "0.5:3"]
    assert json.loads(response.labels("m", labels)) == {
        "model_name": "m",
        "model_version": "1",
        "labels": [
            {"label": "a:b", "index": 7, "score": 1.5},
            {"label": "", "index": 3, "score": 0.5},
        ],
    }
    page = json.loads(in_json(Answer("m", "", "FP32", (1, 2), b"", Slice("r", 4, 8))))
    # perf_analyzer's client looks for binary_data_size in any parameters that there are.
    assert page["outputs"] == [{"name": "output", "datatype": "FP32", "shape": [1, 2]}]


def test_a_result_that_json_cannot_say_is_null() -> None:
    scores = np.array([[np.nan, np.inf, 1]], np.float32)
    page = json.loads(in_json(Answer("m", "", "FP32", (1, 3), scores.tobytes())))
    assert page["outputs"][0]["data"] == [None, None, 1.0]
