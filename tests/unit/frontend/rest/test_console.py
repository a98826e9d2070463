"""Who gets the page for people and its events, and in what words the others are refused."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest
from support.rest_service import FakeService, Reply, ask

from corral.errors import PermissionDenied, QueueFull, Unauthenticated
from corral.frontend.rest import exchange
from corral.frontend.rest.app import RestApp
from corral.frontend.rest.console import ConsolePages
from corral.settings import Settings, build

BROWSER = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
PATHS = ("/", "/console/events")


class FakeFeed:
    """Three events, and then the end."""

    def __init__(self) -> None:
        self.full = False
        self.open = 0

    def follow(self) -> FakeFollower:
        if self.full:
            raise QueueFull("as many pages are open as may be (16 a cell)", 5000)
        self.open += 1
        return FakeFollower(self)


class FakeFollower:
    def __init__(self, feed: FakeFeed) -> None:
        self._feed = feed
        self._left = 3

    def __aiter__(self) -> FakeFollower:
        return self

    async def __anext__(self) -> bytes:
        await asyncio.sleep(0)
        if not self._left:
            raise StopAsyncIteration
        self._left -= 1
        return b"event: frame\ndata: {}\n\n"

    def close(self) -> None:
        self._feed.open -= 1


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def feed() -> FakeFeed:
    return FakeFeed()


def make_app(service: FakeService, feed: FakeFeed, **settings: Any) -> RestApp:
    layer = {name.replace("_", "-"): value for name, value in settings.items()}
    made: Settings = build(layer)
    return RestApp(service, ConsolePages(service, feed, made))


@pytest.fixture
def app(service: FakeService, feed: FakeFeed) -> RestApp:
    return make_app(service, feed)


async def get(app: RestApp, path: str, *fields: tuple[str, str], method: str = "GET") -> Reply:
    return await ask(app, method, path, fields=fields)


async def stream(app: RestApp, *fields: tuple[bytes, bytes], **scope: Any) -> list[Any]:
    """What the application sends for the stream of events."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return await asyncio.Future()

    asked = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": "/console/events",
        "query_string": b"",
        "headers": list(fields),
        **scope,
    }
    await app(asked, receive, send)
    return sent


async def test_the_page_is_one_document(app: RestApp) -> None:
    reply = await get(app, "/", BROWSER)
    assert reply.status == 200
    assert reply.fields["content-type"] == "text/html; charset=utf-8"
    assert reply.fields["cache-control"] == "no-store"
    assert "default-src 'none'" in reply.fields["content-security-policy"]
    packed = await get(app, "/", BROWSER, ("Accept-Encoding", "gzip, br"))
    assert packed.fields["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == reply.body
    head = await get(app, "/", BROWSER, method="HEAD")
    assert head.status == 200


async def test_events_come_as_they_are_made_and_the_place_is_given_up(
    app: RestApp, feed: FakeFeed, service: FakeService
) -> None:
    assert (await get(app, "/", BROWSER)).status == 200
    asides = [service.standing_aside]
    start, *pieces, end = await stream(app)
    asides.append(service.standing_aside)
    assert asides[1] == asides[0] + 1
    assert start["status"] == 200
    fields = dict(start["headers"])
    assert fields[b"content-type"] == b"text/event-stream"
    assert fields[b"cache-control"] == b"no-store"
    assert b"content-length" not in fields
    assert [piece["body"] for piece in pieces] == [b"event: frame\ndata: {}\n\n"] * 3
    assert all(piece["more_body"] for piece in pieces)
    assert not end.get("more_body", False)
    assert feed.open == 0


async def test_head_of_the_events_takes_no_place(app: RestApp, feed: FakeFeed) -> None:
    (start, body) = await stream(app, method="HEAD")
    assert start["status"] == 200
    assert body["body"] == b""
    assert feed.open == 0


@pytest.mark.parametrize("gone", [ConnectionResetError(), asyncio.CancelledError()])
async def test_a_page_that_is_closed_gives_its_place_up(
    app: RestApp, feed: FakeFeed, gone: BaseException
) -> None:
    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise gone

    async def receive() -> Any:
        return await asyncio.Future()

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/console/events",
        "query_string": b"",
        "headers": [],
    }
    try:
        await app(scope, receive, send)
    except asyncio.CancelledError:
        assert isinstance(gone, asyncio.CancelledError)
    assert feed.open == 0


async def test_a_page_that_takes_nothing_is_left(
    app: RestApp, feed: FakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_STALLED_S", 0.01)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Future()

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/console/events",
        "query_string": b"",
        "headers": [],
    }
    async with asyncio.timeout(5):
        await app(scope, asyncio.Future, send)
    assert feed.open == 0


async def test_more_pages_than_may_be_are_told_so(app: RestApp, feed: FakeFeed) -> None:
    feed.full = True
    reply = await get(app, "/console/events")
    assert reply.status == 429
    assert b"as many pages are open as may be" in reply.body
    assert reply.fields["retry-after"] == "5"


@pytest.mark.parametrize("path", PATHS)
async def test_nobody_comes_in_without_credentials(
    app: RestApp, service: FakeService, feed: FakeFeed, path: str
) -> None:
    service.closed = Unauthenticated("valid credentials are needed")
    reply = await get(app, path)
    assert reply.status == 401
    assert reply.fields["www-authenticate"] == "Bearer"
    assert reply.fields["content-type"] == "application/json"
    service.closed = PermissionDenied("this client is not among those that are allowed")
    reply = await get(app, path)
    assert reply.status == 403
    assert feed.open == 0


async def test_a_browser_without_a_token_is_asked_for_one(
    app: RestApp, service: FakeService
) -> None:
    service.closed = Unauthenticated("valid credentials are needed")
    reply = await get(app, "/", BROWSER)
    assert reply.status == 401
    assert reply.fields["www-authenticate"] == "Bearer"
    assert reply.fields["content-type"].startswith("text/html")
    assert b'id="token"' in reply.body
    # Nothing of the console is shown.
    assert b"uPlot" not in reply.body
    service.closed = PermissionDenied("this client is not among those that are allowed")
    reply = await get(app, "/", BROWSER)
    assert reply.status == 403
    assert b"this client is not among those that are allowed" in reply.body
    assert b'id="token"' not in reply.body


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_sites_page_gets_nothing(app: RestApp, path: str, site: str) -> None:
    reply = await get(app, path, ("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", "cors"))
    assert reply.status == 403
    ours = [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "cors")]
    assert (await stream(app, *((n.lower().encode(), v.encode()) for n, v in ours)))[0][
        "status"
    ] == 200
    # A link on another site leads here all the same.
    if path == "/":
        link = [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", "navigate")]
        assert (await get(app, path, *link)).status == 200


@pytest.mark.parametrize(
    ("host", "settings", "status"),
    [
        ("127.0.0.1:8000", {}, 200),
        ("[::1]:8000", {}, 200),
        ("localhost", {}, 200),
        ("LOCALHOST.:8000", {}, 200),
        ("corral.localhost:8000", {}, 200),
        ("192.168.1.5:8000", {}, 200),
        ("evil.example:8000", {}, 403),
        ("127.0.0.1.evil.example", {}, 403),
        ("evil.example:8000", {"host": "0.0.0.0"}, 200),
        ("evil.example:8000", {"auth_token_file": "tokens"}, 200),
    ],
)
async def test_a_name_that_a_stranger_gave_this_machine_opens_nothing(
    service: FakeService, feed: FakeFeed, host: str, settings: dict[str, str], status: int
) -> None:
    app = make_app(service, feed, **settings)
    assert (await get(app, "/", ("Host", host), BROWSER)).status == status


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_console_there_is_nothing(service: FakeService, path: str) -> None:
    reply = await get(RestApp(service), path, BROWSER)
    assert reply.status == 404
    assert b"--no-console" in reply.body


@pytest.mark.parametrize("path", PATHS)
async def test_other_methods_are_refused(app: RestApp, path: str) -> None:
    reply = await ask(app, "POST", path, b"{}")
    assert reply.status == 405
    assert reply.fields["allow"] == "GET, HEAD"
