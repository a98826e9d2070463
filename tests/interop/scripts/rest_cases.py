"""The usual HTTP libraries of Python: httpx, requests, aiohttp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import cases
import httpx
import requests
from cases import CATS, Servers

INFERENCE = {
    "id": "seven",
    "inputs": [
        {"name": "input", "shape": [1, 3, 224, 224], "datatype": "FP32", "data": [2.0] * 150528}
    ],
}


def check(answer: Any) -> None:
    assert answer["id"] == "seven"
    (output,) = answer["outputs"]
    assert (output["name"], output["shape"]) == ("output", [1, 1000])
    assert output["data"][0] == 2.0


def classify_at(servers: Servers) -> str:
    return f"http://{servers.cats_http}/v2/models/{servers.cats_model}/classify?k=2"


def infer_at(servers: Servers) -> str:
    return f"http://{servers.http}/v2/models/{servers.model}/infer"


def works_requests(servers: Servers) -> None:
    with requests.Session() as session:
        ready = session.get(f"http://{servers.http}/v2/health/ready", timeout=20)
        assert ready.json() == {"ready": True}
        check(session.post(infer_at(servers), json=INFERENCE, timeout=20).json())
        with Path(servers.picture).open("rb") as file:
            found = session.post(classify_at(servers), data=file, timeout=20).json()
        assert found["labels"][0]["label"] in CATS
        with Path(servers.picture).open("rb") as file:
            found = session.post(classify_at(servers), files={"file": file}, timeout=20).json()
        assert found["labels"][0]["label"] in CATS


def works_requests_in_chunks(servers: Servers) -> None:
    picture = servers.encoded()
    pieces = (picture[at : at + 7000] for at in range(0, len(picture), 7000))
    found = requests.post(classify_at(servers), data=pieces, timeout=20).json()
    assert found["labels"][0]["label"] in CATS


def works_httpx_over_http_1_and_2(servers: Servers) -> None:
    for options in ({}, {"http1": False, "http2": True}):
        with httpx.Client(timeout=20, **options) as client:
            answer = client.post(infer_at(servers), json=INFERENCE)
            assert answer.http_version == ("HTTP/2" if options else "HTTP/1.1")
            check(answer.json())
            page = client.get(f"http://{servers.http}/v2/models/{servers.model}").json()
            assert page["inputs"][0]["name"] == "input"


async def works_httpx_asynchronously(servers: Servers) -> None:
    async with httpx.AsyncClient(timeout=20) as client:
        found = await client.post(classify_at(servers), content=servers.encoded())
    assert found.json()["labels"][0]["label"] in CATS


async def works_aiohttp(servers: Servers) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.post(infer_at(servers), json=INFERENCE) as answer:
            check(await answer.json())
        form = aiohttp.FormData()
        form.add_field("file", servers.encoded(), filename="cat.jpg", content_type="image/jpeg")
        async with session.post(classify_at(servers), data=form) as answer:
            assert (await answer.json())["labels"][0]["label"] in CATS


def works_errors_are_statuses_with_a_sentence(servers: Servers) -> None:
    answers = [
        requests.get(f"http://{servers.http}/v2/models/nobody", timeout=20),
        httpx.post(infer_at(servers), content=b"{", timeout=20),
        httpx.delete(infer_at(servers), timeout=20),
    ]
    assert [answer.status_code for answer in answers] == [404, 400, 405]
    assert all(answer.json()["error"] for answer in answers)


def works_the_metrics(servers: Servers) -> None:
    text = requests.get(f"http://{servers.metrics}/metrics", timeout=20).text
    assert "nv_inference_request_success" in text


if __name__ == "__main__":
    cases.run(globals())
