"""The page for people, as the bytes that are sent: one document, with all that it needs in it.

The browser runs the page's own scripts, known by their hashes, and asks nobody but this server.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import gzip
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from corral.doctor import drawing
from corral.pages.document import STYLE, document, text

#: the script that a page which asks for a token has, and those of the console
_SIGN_IN, _CONSOLE = ("sign_in.js",), ("uplot.js", "charts.js", "page.js")
_STYLES = ("uplot.css", "page.css")

_FILES = files(__package__) / "static"

Fields = tuple[tuple[bytes, bytes], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """A document to send.

    Attributes:
        body: the document, UTF-8.
        packed: the same as gzip has it.
        fields: header fields that go with it.
    """

    body: bytes
    packed: bytes
    fields: Fields


def file(name: str) -> str:
    """A file of the page's, as text."""
    return (_FILES / name).read_text(encoding="utf-8")


@functools.cache
def console() -> Page:
    """The console; nothing in it is of this server."""
    return _page(file("page.html"), _CONSOLE)


@functools.cache
def sign_in() -> Page:
    """A page that asks for a token, and puts the console in its own place."""
    return _page(file("sign_in.html"), _SIGN_IN)


@functools.lru_cache(maxsize=16)
def refused(reason: str) -> Page:
    """A page that says why nobody may come in."""
    return _page(f'<section class="card"><p>{text(reason)}</p></section>', ())


def _page(content: str, scripts: Sequence[str]) -> Page:
    style = drawing.STYLE + "".join(file(name) for name in _STYLES)
    parts = "".join(f"<script>{file(name)}</script>" for name in scripts)
    body = document("corral", "", content + parts, style).encode()
    return Page(body, gzip.compress(body, 9, mtime=0), _fields())


@functools.cache
def _fields() -> Fields:
    style = STYLE + drawing.STYLE + "".join(file(name) for name in _STYLES)
    # The page that asks for a token becomes the console: it needs the hashes of both.
    scripts = " ".join(_hash(file(name)) for name in (*_CONSOLE, *_SIGN_IN))
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src {_hash(style)}; connect-src 'self'; "
        "img-src blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
    return (
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-store"),
    )


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
