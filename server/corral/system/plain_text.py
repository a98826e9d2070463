"""Signs of bars and units as plain ones, for a standard output whose encoding has no others."""

from __future__ import annotations

import codecs

#: for ``errors`` of a stream
PLAIN = "corral-plain"
_SIGNS = {
    "█": "#", "░": ".", "·": ".", "µ": "u", "\u00d7": "x", "\u2013": "-", "—": "-", "…": "...",
    "±": "+-", "─": "-", "━": "-", "│": "|", "┃": "|", "≥": ">=", "≤": "<=", "→": "->", "²": "2",
    **{level: str(height) for height, level in enumerate("▁▂▃▄▅▆▇", 1)},
}  # fmt: skip


def register() -> str:
    """Makes the name known to Python's codecs, and returns it."""
    codecs.register_error(PLAIN, _replace)
    return PLAIN


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    if all(sign in _SIGNS for sign in signs):
        return "".join(_SIGNS[sign] for sign in signs), error.end
    first = UnicodeEncodeError(
        error.encoding, error.object, error.start, error.start + 1, error.reason
    )
    if signs[0] in _SIGNS:
        return _SIGNS[signs[0]], first.end
    # What cannot be shown is shown escaped.
    return codecs.backslashreplace_errors(first)
