"""The page for people at ``/``, and the stream of events that keeps it up to date.

Everybody who may send requests may see it. Nothing of it is shown to anybody else: without
credentials, ``/`` is a page that asks for a token.
"""

from __future__ import annotations

import importlib
import ipaddress
from types import ModuleType

from corral.errors import NotFound, PermissionDenied, RequestError, Unauthenticated
from corral.frontend.rest.exchange import HTML, Reply, Request
from corral.frontend.rest.service import Feed, Service
from corral.protocol.rest import statuses
from corral.settings import Settings, is_loopback

#: the routes that are answered here
CONSOLE_ACTIONS = frozenset({"console", "console_events"})

_EVENTS = b"text/event-stream"
_STREAM_FIELDS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    # nginx gathers answers otherwise.
    (b"x-accel-buffering", b"no"),
)
_FOREIGN = "the console answers its own page, and no other site's"
_BY_NAME = (
    "the console of a server that listens on this machine alone and asks for no credentials "
    "answers to localhost and to addresses: another name may be anybody's"
)


class ConsolePages:
    """Answers for the console.

    Args:
        service: says who may come.
        feed: what the page shows.
        settings: where the server listens, and what it asks for.
    """

    def __init__(self, service: Service, feed: Feed, settings: Settings) -> None:
        self._service = service
        self._feed = feed
        security, self._host = settings.security, settings.listen.host
        open_to_all = not (security.auth_token_file or security.tls_client_ca)
        # Any site may give a name of its own this machine's address, and its page that name.
        self._by_name = not (open_to_all and is_loopback(self._host))

    def answer(self, action: str, asked: Request) -> Reply:
        """The answer to one of CONSOLE_ACTIONS; raises RequestError."""
        try:
            self._check_site(asked)
            self._service.authorize(asked.scope)
        except (Unauthenticated, PermissionDenied) as error:
            if action != "console" or not _is_browser(asked):
                raise
            return _refusal(error)
        if action == "console":
            made = _page().console()
            return Reply(
                made.body,
                content_type=HTML,
                more=made.fields,
                may_be_packed=True,
                packed=made.packed,
            )
        if asked.method == "HEAD":
            return Reply(b"", content_type=_EVENTS, more=_STREAM_FIELDS)
        return Reply(b"", content_type=_EVENTS, more=_STREAM_FIELDS, follower=self._feed.follow())

    def _check_site(self, asked: Request) -> None:
        """Raises PermissionDenied where another site's page asks, or one under another name."""
        if asked.field(b"sec-fetch-site") in {"cross-site", "same-site"} and (
            asked.field(b"sec-fetch-mode") != "navigate"
        ):
            raise PermissionDenied(_FOREIGN)
        if not self._by_name and not self._is_ours(asked.field(b"host")):
            raise PermissionDenied(_BY_NAME)

    def _is_ours(self, host: str | None) -> bool:
        name = (host or "").lower()
        name = name.rpartition("]")[0].removeprefix("[") if name[:1] == "[" else name.split(":")[0]
        name = name.rstrip(".")
        if name in {"", "localhost", self._host.lower()} or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def answer(pages: ConsolePages | None, action: str, asked: Request) -> Reply:
    """The answer of the console, if there is one; raises RequestError."""
    if pages is None:
        raise NotFound("there is no console here (--no-console); /docs shows what there is")
    return pages.answer(action, asked)


def _page() -> ModuleType:
    """What draws the page; a frontend starts without it, and before anybody opens one."""
    return importlib.import_module("corral.console.page")


def _is_browser(asked: Request) -> bool:
    return "text/html" in (asked.field(b"accept") or "")


def _refusal(error: RequestError) -> Reply:
    """A page that says who may come in; with a place for a token where one would help."""
    page = _page()
    made = page.sign_in() if isinstance(error, Unauthenticated) else page.refused(str(error))
    fields = (*made.fields, *statuses.fields_of(error))
    return Reply(made.body, statuses.status_of(error), content_type=HTML, more=fields)
