"""The REST form's routes, over a frontend in Python."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from openapi_spec_validator import validate
from support.loop_pauses import longest_pause
from support.rest_service import CLASSES, FakeService, Reply, ask, bytes_tensor
from tritonclient.http._utils import _get_inference_request

from corral.errors import (
    DeadlineMissed,
    InferenceFailed,
    PermissionDenied,
    QueueFull,
    RequestError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from corral.frontend.rest import make
from corral.frontend.rest.app import RestApp
from corral.priority import Priority
from corral.protocol.response import Answer
from corral.protocol.rest import compression
from corral.tensors import Datatype, Signature, TensorSpec

JPEG = b"ok\x03 as the model has it"
PIXELS = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)
INFER = "/v2/models/m/infer"
_PORT = TensorSpec("a", Datatype.FP32, (4,))
_OTHER = TensorSpec("b", Datatype.INT64, (2,))


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def app(service: FakeService) -> RestApp:
    return make(service)


def triton_request(
    array: np.ndarray[Any, Any],
    datatype: str,
    *,
    binary: bool = True,
    outputs: list[Any] | None = None,
    **more: Any,
) -> tuple[bytes, list[tuple[str, str]]]:
    """What tritonclient.http would send: the body, and its header fields."""
    tensor = triton.InferInput("input", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    arguments = {
        "request_id": "",
        "sequence_id": 0,
        "sequence_start": False,
        "sequence_end": False,
        "priority": 0,
        "timeout": None,
        "custom_parameters": None,
        **more,
    }
    body, size = _get_inference_request(inputs=[tensor], outputs=outputs, **arguments)
    return body, [] if size is None else [("Inference-Header-Content-Length", str(size))]


def triton_result(reply: Reply) -> np.ndarray[Any, Any]:
    assert reply.status == 200, reply.body
    length = reply.fields.get("inference-header-content-length")
    result = triton.InferResult.from_response_body(
        reply.body,
        header_length=None if length is None else int(length),
        content_encoding=reply.fields.get("content-encoding"),
    )
    found: np.ndarray[Any, Any] = result.as_numpy("output")
    return found


def said(reply: Reply) -> str:
    """The sentence of an error."""
    assert reply.fields["content-type"] == "application/json"
    page = json.loads(reply.body)
    assert list(page) == ["error"]
    assert 10 < len(page["error"]) < 400
    return str(page["error"])


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("datatype", ["FP32", "UINT8"])
@pytest.mark.parametrize("pieces", [1, 2, 3, 40])
async def test_tritonclient_gets_its_answer(
    app: RestApp,
    service: FakeService,
    datatype: str,
    *,
    pieces: int,
    binary_out: bool | None,
    binary_in: bool,
) -> None:
    array: np.ndarray[Any, Any] = PIXELS
    if datatype == "FP32":
        array = np.random.default_rng(3).standard_normal((2, 3, 4, 4), np.float32)
    outputs = None
    if binary_out is not None:
        outputs = [triton.InferRequestedOutput("output", binary_data=binary_out)]
    body, fields = triton_request(
        array, datatype, binary=binary_in, outputs=outputs, request_id="seven", timeout=9_000_000
    )
    reply = await ask(app, "POST", "/v2/models/m/versions/1/infer", body, fields, pieces=pieces)
    expected = array.reshape(2, -1)[:, :CLASSES].astype(np.float32)
    assert np.array_equal(triton_result(reply), expected)
    assert service.raws == [array.tobytes()]
    assert service.heads[0].request_id == "seven"
    assert service.heads[0].timeout_s == 9
    header = reply.body[: int(reply.fields.get("inference-header-content-length", "0")) or None]
    assert json.loads(header)["id"] == "seven"
    binary = binary_out is not False
    assert reply.fields["content-type"] == (
        "application/octet-stream" if binary else "application/json"
    )


@pytest.mark.parametrize("path", [INFER, "/v2/models/m/classify"])
async def test_the_field_grpc_timeout_is_the_deadline(
    app: RestApp, service: FakeService, path: str
) -> None:
    body, fields = JPEG, [("Grpc-Timeout", "9S")]
    if path == INFER:
        body, more = triton_request(PIXELS, "UINT8")
        fields += more
    before_s = time.monotonic()
    assert (await ask(app, "POST", path, body, fields)).status == 200
    assert service.deadlines_s[0] is not None
    assert before_s + 9 <= service.deadlines_s[0] <= time.monotonic() + 9
    fields[0] = ("Grpc-Timeout", "soon")
    assert "grpc-timeout" in said(reply := await ask(app, "POST", path, body, fields))
    assert reply.status == 400


async def test_tritonclient_classifies_pictures(app: RestApp) -> None:
    pictures = np.array([b"ok\x03", b"ok\x05"], np.object_)
    outputs = [triton.InferRequestedOutput("output", class_count=2)]
    body, fields = triton_request(pictures, "BYTES", outputs=outputs)
    found = triton_result(await ask(app, "POST", INFER, body, fields))
    assert found.tolist() == [
        [b"1.000000:3:class 3", b"0.000000:0:class 0"],
        [b"1.000000:5:class 5", b"0.000000:0:class 0"],
    ]
    outputs = [triton.InferRequestedOutput("output", binary_data=False, class_count=1)]
    body, fields = triton_request(pictures, "BYTES", outputs=outputs)
    reply = await ask(app, "POST", INFER, body, fields)
    assert json.loads(reply.body)["outputs"][0]["data"] == [
        "1.000000:3:class 3",
        "1.000000:5:class 5",
    ]


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
async def test_tritonclient_packs_and_unpacks(app: RestApp, encoding: str, pack: Any) -> None:
    body, fields = triton_request(np.repeat(PIXELS, 4, axis=0), "UINT8")
    asked = [*fields, ("Content-Encoding", encoding), ("Accept-Encoding", encoding)]
    reply = await ask(app, "POST", INFER, pack(body), asked)
    assert reply.fields["content-encoding"] == encoding
    assert triton_result(reply).shape == (8, CLASSES)


async def test_a_header_is_read_once(
    app: RestApp, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, fields = triton_request(PIXELS, "UINT8")
    read: list[object] = []
    original = service.read_head

    def count(message: Any) -> Any:
        read.append(message)
        return original(message)

    monkeypatch.setattr(service, "read_head", count)
    for _ in range(3):
        assert (await ask(app, "POST", INFER, body, fields)).status == 200
    assert len(read) == 1


async def test_pictures_in_json_are_base64(app: RestApp) -> None:
    tensor = {
        "name": "input",
        "datatype": "BYTES",
        "shape": [1, 1],
        "data": ["b2sDIGFz"],
        "parameters": {"content_type": "base64"},
    }
    body = json.dumps({"inputs": [tensor], "parameters": {"classification": 1}}).encode()
    reply = await ask(app, "POST", INFER, body)
    assert json.loads(reply.body)["outputs"][0]["data"] == ["1.000000:3:class 3"]


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "image/jpeg",
        "image/png",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
    ],
)
async def test_curl_classifies_a_picture(app: RestApp, content_type: str | None) -> None:
    fields = [] if content_type is None else [("Content-Type", content_type)]
    reply = await ask(app, "POST", "/v2/models/m/classify?k=2", JPEG, fields)
    assert json.loads(reply.body) == {
        "model_name": "m",
        "model_version": "1",
        "labels": [
            {"label": "class 3", "index": 3, "score": 1.0},
            {"label": "class 0", "index": 0, "score": 0.0},
        ],
    }


@pytest.mark.parametrize(
    ("signature", "told"),
    [
        (
            Signature({Datatype.FP32: (4,)}, (4,), None, (_PORT, _OTHER)),
            "the model takes no pictures, but 'a' FP32 [n,4], 'b' INT64 [n,2]: send tensors",
        ),
        (
            Signature({Datatype.FP32: (4,)}, (4,)),
            (
                "the model takes no pictures, but 'input' FP32 [n,4]: give it [preprocessing] in "
                "the TOML file beside it, or send tensors"
            ),
        ),
        (
            Signature(
                {Datatype.FP32: (3, 4, 4), Datatype.UINT8: (4, 4, 3)},
                (4,),
                outputs=(_PORT, _OTHER),
            ),
            (
                "labels are of one output of FP32 scores, and the model answers 'a' FP32 [n,4], "
                "'b' INT64 [n,2]: send the picture as a BYTES input"
            ),
        ),
    ],
)
async def test_a_model_without_labels_says_why_and_what_to_send(
    signature: Signature, told: str
) -> None:
    service = FakeService(signature)
    reply = await ask(make(service), "POST", "/v2/models/m/classify", JPEG)
    assert (reply.status, json.loads(reply.body)["error"]) == (400, f"{told} to /v2/models/m/infer")
    (counted,) = service.counted
    assert counted.outcome == "invalid"
    reply = await ask(make(service), "POST", "/v2/models/other/classify", JPEG)
    assert (reply.status, json.loads(reply.body)["error"]) == (404, "no model 'other'")


@pytest.mark.parametrize("media", ["", "multipart/form-data; boundary=B"])
async def test_what_is_packed_and_no_picture_is_not_unpacked_whole(
    app: RestApp, service: FakeService, monkeypatch: pytest.MonkeyPatch, media: str
) -> None:
    service.max_body_bytes = 2**22
    unpacked: list[int] = []
    whole = compression.unpack

    def unpack(*args: Any) -> Any:
        body = whole(*args)
        unpacked.append(len(body))
        return body

    monkeypatch.setattr(compression, "unpack", unpack)
    fields = [("Content-Encoding", "gzip"), ("Content-Type", media)]
    bomb = gzip.compress(bytes(2**22), mtime=0)
    await ask(app, "POST", "/v2/models/m/classify", bomb, fields)
    assert unpacked[0] < 2**20


async def test_a_form_classifies_a_picture(app: RestApp) -> None:
    body = (
        b'--B\r\nContent-Disposition: form-data; name="f"; filename="c"\r\n\r\n'
        + JPEG
        + b"\r\n--B--"
    )
    fields = [("Content-Type", "multipart/form-data; boundary=B")]
    reply = await ask(app, "POST", "/v2/models/m_image/versions/1/classify", body, fields)
    assert len(json.loads(reply.body)["labels"]) == 5


async def test_a_packed_picture_is_classified(app: RestApp, service: FakeService) -> None:
    fields = [("Content-Encoding", "gzip")]
    path = "/v2/models/m/classify?timeout=5000000&priority=2"
    reply = await ask(app, "POST", path, gzip.compress(JPEG, mtime=0), fields)
    assert reply.status == 200
    assert service.heads[0].timeout_s == 5
    assert service.heads[0].priority is Priority.BULK


# --- pages ---


async def page(app: RestApp, path: str, method: str = "GET", body: bytes = b"") -> Any:
    reply = await ask(app, method, path, body)
    assert reply.status == 200, reply.body
    assert reply.fields["content-type"] == "application/json"
    return json.loads(reply.body)


async def test_pages(app: RestApp, service: FakeService) -> None:
    assert await page(app, "/v2/health/live") == {"live": True}
    assert await page(app, "/v2/health/ready") == {"ready": True}
    for path in ("/v2", "/v2/"):
        metadata = await page(app, path)
        assert metadata["name"] == "corral"
        assert metadata["extensions"] == ["statistics", "binary_tensor_data"]
    for start in ("/v2/models/m", "/v2/models/m/versions/1", "/v2/models/%6D"):
        assert (await page(app, f"{start}/ready"))["ready"] is True
        assert (await page(app, start))["inputs"][0]["shape"] == [-1, 3, 4, 4]
        assert (await page(app, f"{start}/config"))["max_batch_size"] == 8
        assert (await page(app, f"{start}/stats"))["model_stats"] == [{"name": "m"}]
    assert len((await page(app, "/v2/models/stats"))["model_stats"]) == 1
    for body in (b"", b'{"ready":true}'):
        models = await page(app, "/v2/repository/index", "POST", body)
        assert models[0]["state"] == "READY"
    assert service.asked[-1] == ("RepositoryIndex", {"ready": True})


async def test_small_bodies_come_packed_as_large_ones_do(
    app: RestApp, service: FakeService
) -> None:
    path, body = "/v2/repository/index", gzip.compress(b'{"ready":true}')
    assert await ask(app, "POST", path, body, [("Content-Encoding", "gzip")])
    assert service.asked[-1] == ("RepositoryIndex", {"ready": True})
    for encoding, packed, status in (
        ("br", body, 415),
        ("gzip", b"{}", 400),
        ("gzip", gzip.compress(bytes(100_000)), 413),
    ):
        reply = await ask(app, "POST", path, packed, [("Content-Encoding", encoding)])
        assert reply.status == status


async def test_shared_memory_pages(app: RestApp, service: FakeService) -> None:
    start = "/v2/systemsharedmemory"
    assert (await page(app, f"{start}/status"))[0]["key"] == "/k"
    assert (await page(app, f"{start}/region/a%2Fb/status"))[0]["name"] == "r"
    assert service.asked[-1] == ("SystemSharedMemoryStatus", {"name": "a/b"})
    body = b'{"key":"/k","offset":1,"byte_size":2}'
    assert await page(app, f"{start}/region/r/register", "POST", body) == {}
    assert service.asked[-1] == (
        "SystemSharedMemoryRegister",
        {"name": "r", "key": "/k", "offset": 1, "byte_size": 2},
    )
    for path in (f"{start}/unregister", f"{start}/region/r/unregister"):
        assert await page(app, path, "POST") == {}
    for body in (b"", b"{}", b"[", b'{"key":"/k","byte_size":-1}', b'{"key":"/k","byte_size":1e3}'):
        reply = await ask(app, "POST", f"{start}/region/r/register", body)
        assert (reply.status, len(said(reply)) > 0) == (400, True)
    assert await page(app, "/v2/cudasharedmemory/status") == []
    assert await page(app, "/v2/cudasharedmemory/unregister", "POST") == {}
    reply = await ask(app, "POST", "/v2/cudasharedmemory/region/r/register", b"{}")
    assert reply.status == 501


async def test_the_openapi_document_is_valid(app: RestApp) -> None:
    document = await page(app, "/openapi.json")
    validate(document)
    assert document["openapi"].startswith("3.1")
    assert document["components"]["parameters"]["model"]["schema"]["enum"] == ["m", "m_uint8"]
    names = [
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
    ]
    assert len(names) == len(set(names))


async def test_every_path_of_the_document_is_there(app: RestApp) -> None:
    document = await page(app, "/openapi.json")
    for path, methods in document["paths"].items():
        for method in methods:
            real = path.replace("{model}", "m").replace("{version}", "1")
            reply = await ask(app, method.upper(), real)
            assert reply.status not in {404, 405}, (method, path)


async def test_the_page_asks_nobody_else(app: RestApp) -> None:
    reply = await ask(app, "GET", "/docs")
    assert reply.fields["content-type"].startswith("text/html")
    assert "default-src 'none'" in reply.fields["content-security-policy"]
    text = reply.body.decode()
    assert "http://" not in text
    assert "https://" not in text
    assert "innerHTML" not in text


# --- refusals ---


async def test_not_ready(app: RestApp, service: FakeService) -> None:
    service.ready = False
    assert (await ask(app, "GET", "/v2/health/live")).status == 200
    for path in ("/v2/health/ready", "/v2/models/m/ready"):
        reply = await ask(app, "GET", path)
        assert reply.status == 503
        assert reply.fields["retry-after"] == "1"
        assert "not serving" in said(reply)


@pytest.mark.parametrize(
    ("error", "status", "field"),
    [
        (QueueFull("the queue is full", 250), 429, ("retry-after", "1")),
        (Unavailable("the server is stopping"), 503, ("retry-after", "1")),
        (DeadlineMissed("the deadline passed"), 504, None),
        (InferenceFailed("two workers failed"), 500, None),
        (Unsupported("this is not to be had"), 501, None),
        (ValueError("a secret path"), 500, None),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_errors_have_their_status(
    app: RestApp,
    service: FakeService,
    error: Exception,
    status: int,
    field: tuple[str, str] | None,
) -> None:
    service.error = error
    for path in (INFER, "/v2/models/m/classify"):
        reply = await ask(app, "POST", path, JPEG)
        assert reply.status == status
        known = isinstance(error, RequestError)
        assert said(reply) == (str(error) if known else "internal error")
        assert field is None or reply.fields[field[0]] == field[1]


async def test_more_requests_than_may_be(app: RestApp, service: FakeService) -> None:
    service.full = QueueFull("as many as may be are under way", 100)
    for method, path in (("GET", "/v2/health/live"), ("POST", INFER), ("GET", "/none")):
        reply = await ask(app, method, path)
        assert (reply.status, reply.fields["retry-after-ms"]) == (429, "100")


@pytest.mark.parametrize(
    ("error", "status"),
    [(Unauthenticated("credentials are needed"), 401), (PermissionDenied("not this client"), 403)],
)
async def test_credentials_are_asked_for(
    app: RestApp, service: FakeService, error: RequestError, status: int
) -> None:
    service.closed = error
    for method, path in (
        ("GET", "/v2"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("POST", INFER),
        ("GET", "/v2/models/m/ready"),
        ("POST", "/v2/repository/index"),
    ):
        assert (await ask(app, method, path)).status == status
    # Probes have none.
    assert (await ask(app, "GET", "/v2/health/live")).status == 200
    assert (await ask(app, "GET", "/v2/health/ready")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v3", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models/", 404),
        ("GET", "/v2/models/x", 404),
        ("GET", "/v2/models/m/versions/2", 404),
        ("GET", "/v2/models/m/versions", 404),
        ("GET", "/v2/models/m/nothing", 404),
        ("GET", "/v2/models/m/config/more", 404),
        ("GET", "/v2//models/m", 404),
        ("GET", "/v2/../v2", 404),
        ("GET", "/%ff", 404),
        ("GET", "*", 404),
        ("POST", "/inference.GRPCInferenceService/ServerLive", 415),
        ("GET", INFER, 405),
        ("PUT", INFER, 405),
        ("DELETE", "/v2/models/m", 405),
        ("OPTIONS", "/v2", 405),
        ("GET", "/v2/repository/index", 405),
        ("POST", "/v2/health/live", 405),
    ],
)
async def test_paths_and_methods_that_are_none(
    app: RestApp, method: str, path: str, status: int
) -> None:
    reply = await ask(app, method, path)
    assert reply.status == status
    assert len(said(reply)) > 0
    assert ("allow" in reply.fields) == (status == 405)


async def test_head_is_get(app: RestApp) -> None:
    assert (await ask(app, "HEAD", "/v2/health/live")).status == 200


TRITON_BODY, TRITON_FIELDS = triton_request(PIXELS, "UINT8")
GZIP = ("Content-Encoding", "gzip")
JSON_BODY, _ = triton_request(PIXELS, "UINT8", binary=False)


@pytest.mark.parametrize(
    ("body", "fields", "status"),
    [
        (b"", [], 400),
        (b"{", [], 400),
        (JSON_BODY + b" x", [], 400),
        (TRITON_BODY, [], 400),
        (TRITON_BODY + b"x", TRITON_FIELDS, 400),
        (TRITON_BODY[:-1], TRITON_FIELDS, 400),
        (TRITON_BODY, [("Inference-Header-Content-Length", "999999")], 400),
        (TRITON_BODY, [("Inference-Header-Content-Length", "-1")], 400),
        (TRITON_BODY, TRITON_FIELDS * 2, 400),
        (JSON_BODY, [("Content-Encoding", "br")], 415),
        (JSON_BODY, [("Content-Encoding", "gzip")], 400),
        (JSON_BODY, [("Content-Encoding", "gzip")] * 2, 400),
        (JSON_BODY, [("Content-Type", "multipart/form-data; boundary=x")], 415),
        (JSON_BODY, [("Content-Type", "image/png")], 415),
        (bytes(200_001), [], 413),
        (gzip.compress(bytes(1_000_000), mtime=0), [("Content-Encoding", "gzip")], 413),
        (JSON_BODY.replace(b'"UINT8"', b'"INT8"'), [], 400),
        (JSON_BODY.replace(b'"input"', b'"inputs"', 1), [], 400),
        (JSON_BODY.replace(b"[2,", b"[9,"), [], 400),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_bodies_that_are_no_inference(
    app: RestApp, service: FakeService, body: bytes, fields: list[tuple[str, str]], status: int
) -> None:
    reply = await ask(app, "POST", INFER, body, fields)
    assert (reply.status, len(said(reply)) > 0) == (status, True)
    assert not service.raws or status == 400
    good = await ask(app, "POST", INFER, TRITON_BODY, TRITON_FIELDS)
    assert triton_result(good).shape == (2, CLASSES)


async def test_no_body_and_no_length(app: RestApp, service: FakeService) -> None:
    for path in (INFER, "/v2/models/m/classify"):
        reply = await ask(app, "POST", path, length=False)
        assert reply.status == 411
    assert len(service.counted) == 2


async def test_a_refused_body_is_counted(app: RestApp, service: FakeService) -> None:
    await ask(app, "POST", INFER, b"{")
    await ask(app, "POST", INFER, JSON_BODY.replace(b'"UINT8"', b'"INT8"'))
    await ask(app, "POST", "/v2/models/m_uint8/classify", JPEG)
    assert [error.view for error in service.counted] == ["tensor", "tensor", "uint8"]


@pytest.mark.parametrize(
    ("path", "body", "fields", "status"),
    [
        ("?k=0", JPEG, [], 400),
        ("?k=x", JPEG, [], 400),
        ("?k=-1", JPEG, [], 400),
        ("?k=" + "1" * 30, JPEG, [], 400),
        ("?k=1&k=2", JPEG, [], 400),
        ("?top=1", JPEG, [], 400),
        ("?k=%ff", JPEG, [], 400),
        ("?&&", JPEG, [], 400),
        ("?timeout=1.5", JPEG, [], 400),
        ("?priority=-1", JPEG, [], 400),
        ("?" + "&".join(f"a{n}=1" for n in range(50)), JPEG, [], 400),
        ("", b"GIF8", [], 400),
        ("", b"", [], 400),
        ("", bytes(2_000), [], 400),
        ("", JPEG, [("Content-Type", "application/json")], 415),
        ("", JPEG, [("Content-Type", "image/gif")], 415),
        ("", JPEG, [("Content-Type", "image/jpeg")] * 2, 400),
        ("", JPEG, [("Content-Type", "multipart/form-data; boundary=B")], 400),
    ],
)
async def test_pictures_that_are_none(
    app: RestApp, path: str, body: bytes, fields: list[tuple[str, str]], status: int
) -> None:
    reply = await ask(app, "POST", f"/v2/models/m/classify{path}", body, fields)
    assert (reply.status, len(said(reply)) > 0) == (status, True)


async def test_errors_are_never_packed(app: RestApp) -> None:
    path = f"/v2/models/{'x' * 600}"
    reply = await ask(app, "GET", path, fields=[("Accept-Encoding", "gzip")])
    assert "content-encoding" not in reply.fields
    assert len(said(reply)) > 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2"),
        ("GET", "/v2/models/m"),
        ("GET", "/v2/models/m/config"),
        ("GET", "/v2/models/m/stats"),
        ("POST", "/v2/repository/index"),
        ("GET", "/v2/systemsharedmemory/status"),
    ],
)
async def test_the_protocols_pages_are_never_packed(
    app: RestApp, service: FakeService, method: str, path: str
) -> None:
    """Triton packs inferences alone, and tritonclient's asyncio form unpacks those alone."""
    service.padding = "x" * 2000
    reply = await ask(app, method, path, fields=[("Accept-Encoding", "gzip, deflate")])
    assert (reply.status, len(reply.body) > 2000) == (200, True)
    assert "content-encoding" not in reply.fields
    json.loads(reply.body)


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
async def test_pages_for_people_are_packed(app: RestApp, path: str) -> None:
    reply = await ask(app, "GET", path, fields=[("Accept-Encoding", "gzip")])
    assert reply.fields["content-encoding"] == "gzip"
    assert gzip.decompress(reply.body)


async def test_what_a_load_asks_for_is_handed_on(app: RestApp, service: FakeService) -> None:
    path = "/v2/repository/models/m/load"
    await page(app, path, "POST")
    assert service.asked[-1] == ("RepositoryModelLoad", {"model_name": "m", "parameters": {}})
    await page(
        app, path, "POST", b'{"parameters":{"config":"{}","file:1/m":"AAAA","n":2,"b":true}}'
    )
    assert service.asked[-1] == (
        "RepositoryModelLoad",
        {
            "model_name": "m",
            "parameters": {
                "config": {"string_param": "{}"},
                "file:1/m": {"string_param": "AAAA"},
                "n": {"int64_param": 2},
                "b": {"bool_param": True},
            },
        },
    )
    for body in (b"[", b'{"parameters":[]}', b'{"parameters":{"config":[]}}'):
        reply = await ask(app, "POST", path, body)
        assert (reply.status, len(said(reply)) > 0) == (400, True)


async def test_a_client_that_left_is_no_error(app: RestApp) -> None:
    async def receive() -> Any:
        return await asyncio.Future()

    async def send(_message: Any) -> None:
        raise OSError("gone")

    await app(
        {"type": "http", "method": "GET", "path": "/v2", "raw_path": b"/v2", "headers": []},
        receive,
        send,
    )


async def test_what_waits_for_the_model_is_the_tensor_alone(
    app: RestApp, service: FakeService
) -> None:
    """JSON is many times longer than its tensor; a packed body was unpacked."""
    service.patience = 100
    await ask(app, "POST", INFER, JSON_BODY)
    await ask(app, "POST", INFER, gzip.compress(TRITON_BODY, mtime=0), [*TRITON_FIELDS, GZIP])
    await ask(app, "POST", "/v2/models/m/classify", JPEG)
    assert service.kept == [0, 0, 0]


async def test_long_json_does_not_hold_the_others_up(app: RestApp) -> None:
    """Requests whose JSON is read in threads come back right, among others."""
    long = json.dumps(json.loads(JSON_BODY), indent=300).encode()
    assert len(long) > 100_000
    replies = await asyncio.gather(
        *(ask(app, "POST", INFER, body) for body in [long, JSON_BODY] * 8)
    )
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1


@pytest.mark.parametrize(("binary", "accepts"), [(False, ""), (False, "gzip"), (True, "gzip")])
async def test_long_answers_do_not_hold_the_others_up(
    app: RestApp,
    service: FakeService,
    monkeypatch: pytest.MonkeyPatch,
    binary: bool,
    accepts: str,
) -> None:
    """A segmentation's: millions of values, as JSON and packed."""
    values = np.sin(np.arange(2_000_000, dtype=np.float32))

    async def infer(*_: Any) -> Answer:
        return Answer("m", "", "FP32", (1, len(values)), values.tobytes())

    monkeypatch.setattr(service, "infer", infer)
    asked = {**json.loads(JSON_BODY), "parameters": {"binary_data_output": binary}}
    replies = []

    async def request() -> None:
        fields = [("Accept-Encoding", accepts)] if accepts else []
        replies.append(await ask(app, "POST", INFER, json.dumps(asked).encode(), fields))

    assert await longest_pause(request()) < 0.5
    (reply,) = replies
    body = gzip.decompress(reply.body) if accepts else reply.body
    if binary:
        found = np.frombuffer(body[-values.nbytes :], np.float32)
    else:
        found = np.array(json.loads(body)["outputs"][0]["data"], np.float32)
    assert np.array_equal(found, values)


async def test_a_list_of_encodings_may_come_in_pieces(app: RestApp) -> None:
    """As RFC 9110 has it (5.3): a proxy may split such a field."""
    fields = [("Accept-Encoding", "br"), ("Accept-Encoding", "deflate;q=0.5, gzip")]
    reply = await ask(app, "GET", "/openapi.json", fields=fields)
    assert (reply.status, reply.fields["content-encoding"]) == (200, "gzip")


def test_elements_of_strings() -> None:
    assert bytes_tensor(b"a", b"") == b"\1\0\0\0a\0\0\0\0"
