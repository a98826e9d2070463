"""The one file of a multipart/form-data body, as a browser's form sends it."""

from __future__ import annotations

import re

from corral.errors import InvalidRequest

#: the headers of a part, and of all of them
_MAX_HEAD_BYTES = 4096
_MAX_HEADS_BYTES = 2**16
#: a form of millions of tiny parts would take seconds
_MAX_PARTS = 256
#: what is searched in one go: other threads have to wait meanwhile
_STEP_BYTES = 2**20
_BOUNDARY = re.compile(r'(?:^|;)\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))\s*(?:;|$)', re.I)
_FILE = re.compile(rb'^content-disposition:[^\r\n]*;\s*filename="?[^\r\n]', re.I | re.M)

Body = bytes | bytearray | memoryview


def only_file(body: Body, content_type: str) -> memoryview:
    """The content of the file in a form; its other fields are passed over.

    Args:
        body: all of it.
        content_type: the header field, for its boundary.

    Returns:
        the file where it lies in the body.

    Raises:
        InvalidRequest: the form is damaged, or has no file, or several, or too many parts.
    """
    found = _BOUNDARY.search(content_type.partition(";")[2])
    if found is None:
        raise InvalidRequest("the form's Content-Type has no boundary")
    mark = b"--" + (found[1] or found[2]).encode("latin-1")
    data = bytes(body)
    if not data.startswith(mark):
        raise InvalidRequest("the form does not begin with its boundary")
    files: list[memoryview] = []
    at = len(mark)
    parts = heads_bytes = 0
    while data[at : at + 2] == b"\r\n":
        head_end = data.find(b"\r\n\r\n", at, at + _MAX_HEAD_BYTES)
        end = _find(data, b"\r\n" + mark, max(at, head_end))
        if head_end < 0 or end < 0:
            raise InvalidRequest("the form is cut off, or a part of it has no header")
        parts += 1
        heads_bytes += head_end - at
        if parts > _MAX_PARTS or heads_bytes > _MAX_HEADS_BYTES:
            raise InvalidRequest(
                f"the form has more than {_MAX_PARTS} parts, or {_MAX_HEADS_BYTES} bytes of headers"
            )
        if _FILE.search(data[at + 2 : head_end]):
            files.append(memoryview(data)[head_end + 4 : max(end, head_end + 4)])
        if len(files) > 1:
            raise InvalidRequest("the form has several files; send one picture")
        at = end + 2 + len(mark)
    if data[at : at + 2] != b"--":
        raise InvalidRequest("the form is cut off: its last boundary is missing")
    if not files:
        raise InvalidRequest("the form has no file; send one picture")
    return files[0]


def is_no_form(beginning: bytes) -> bool:
    """Whether a body is no form, whatever comes after its beginning."""
    return bool(beginning) and not beginning.startswith(b"--"[: len(beginning)])


def _find(data: bytes, sought: bytes, at: int) -> int:
    """As ``data.find``, which lets no other thread run for as long as it searches."""
    while at < len(data):
        found = data.find(sought, at, at + _STEP_BYTES + len(sought) - 1)
        if found >= 0:
            return found
        at += _STEP_BYTES
    return -1
