"""What a request's header fields say that the REST form goes by."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable

from corral.errors import InvalidRequest

#: longer numbers are not read
MAX_DIGITS = 18
_WEIGHT = re.compile(r"\s*q=([0-9.]+)\s*", re.IGNORECASE)


def single(fields: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """The value of a field that may come once; None when it did not.

    Args:
        fields: (name in lower case, value).
        name: in lower case.

    Raises:
        InvalidRequest: it comes twice: nobody can know which one is meant.
    """
    found = [value for key, value in fields if key == name]
    if len(found) > 1:
        raise InvalidRequest(f"the header field {name.decode()} comes {len(found)} times")
    return text(found[0]) if found else None


def text(value: bytes) -> str:
    """A field's value, which is bytes."""
    return value.decode("latin-1").strip()


def listed(fields: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """The value of a field that is a list: who sends it in pieces means all; None: it is not there.

    Args:
        fields: (name in lower case, value).
        name: in lower case.
    """
    found = [value for key, value in fields if key == name]
    return b",".join(found).decode("latin-1") if found else None


def bytes_in(name: bytes, value: str | None) -> int | None:
    """A field's value that is a number of bytes; None when there is none.

    Args:
        name: the field's.
        value: its text.

    Raises:
        InvalidRequest: it is no such number.
    """
    if value is None:
        return None
    # int() would take signs, underscores, spaces and other alphabets' digits.
    if not (value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS):
        raise InvalidRequest(f"the header field {name.decode()} is no number of bytes")
    return int(value)


def media_type(value: str | None) -> str:
    """A Content-Type without its parameters, in lower case; "" when there is none."""
    return (value or "").partition(";")[0].strip().lower()


def accepted_encoding(value: str | None) -> str | None:
    """Which of gzip and deflate an Accept-Encoding asks for by name; None: neither."""
    wanted: dict[str, float] = {}
    for part in (value or "").split(","):
        name, _, rest = part.partition(";")
        weight = _WEIGHT.fullmatch(rest or "q=1")
        # An offer that cannot be read is none: an answer that is not packed is always right.
        with contextlib.suppress(ValueError):
            wanted[name.strip().lower()] = float(weight[1]) if weight else 0.0
    offers = [(wanted.get(name, 0.0), name) for name in ("gzip", "deflate")]
    weight_of_best, best = max(offers, key=lambda offer: offer[0])
    return best if weight_of_best > 0 else None
