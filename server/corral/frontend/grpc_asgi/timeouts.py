"""The field ``grpc-timeout``: how long a client waits for its answer."""

from __future__ import annotations

_SECONDS = {
    ord("H"): 3600.0,
    ord("M"): 60.0,
    ord("S"): 1.0,
    ord("m"): 1e-3,
    ord("u"): 1e-6,
    ord("n"): 1e-9,
}
_MAX_DIGITS = 8


def timeout_s(value: bytes) -> float:
    """The timeout in seconds.

    Args:
        value: the field, one to eight digits and a unit (H, M, S, m, u or n).

    Raises:
        ValueError: it is anything else.
    """
    digits, unit = value[:-1], _SECONDS.get(value[-1]) if value else None
    if unit is None or not digits.isdigit() or len(digits) > _MAX_DIGITS:
        raise ValueError("grpc-timeout is one to eight digits and one of H, M, S, m, u and n")
    return int(digits) * unit
