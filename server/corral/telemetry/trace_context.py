"""W3C Trace Context: ``traceparent`` and ``tracestate``, read as the recommendation says. Pure."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Iterable

Fields = Iterable[tuple[bytes, bytes]]

TRACEPARENT, TRACESTATE = b"traceparent", b"tracestate"
#: version, trace id, parent id, flags; what a later version appends
_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
#: a parent, well formed, that is not sampled: the most frequent of those that are not followed
_UNSAMPLED = re.compile(
    rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]"
).fullmatch
_FORBIDDEN_VERSION, _OUR_VERSION = b"ff", b"00"
_SAMPLED = 0x01
#: the least that has to be passed on; a longer one is left out whole
_STATE_BYTES = 512


@dataclasses.dataclass(frozen=True, slots=True)
class TraceContext:
    """Where a request belongs among traces.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: of the request's own span, 16 hexadecimal digits.
        parent_id: of the caller's span; "" where the trace begins here.
        sampled: whether the caller, or the rate, wants it recorded.
        state: the caller's ``tracestate``, as it came; "" for none.
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    sampled: bool = True
    state: str = ""

    @property
    def traceparent(self) -> str:
        """The header that a child of this span would carry."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"

    def child(self) -> TraceContext:
        """Another span of the same trace, below this one."""
        return TraceContext(
            self.trace_id, new_span_id(), self.span_id, sampled=self.sampled, state=self.state
        )


def begin() -> TraceContext:
    """A new trace."""
    return TraceContext(_new_id(128), new_span_id())


def is_unsampled(parent: bytes) -> bool:
    """Whether a ``traceparent`` is well formed and says that nobody traces. Cheap."""
    return _UNSAMPLED(parent) is not None


def follow(fields: Fields) -> TraceContext | None:
    """The trace that a request's header fields continue; None where they name none.

    A ``traceparent`` that is malformed, or comes twice, is as good as none, and so is its state.

    Args:
        fields: names, in lower case, and values.
    """
    parents = [value for name, value in fields if name == TRACEPARENT]
    found = _FORM.fullmatch(parents[0].strip(b" \t")) if len(parents) == 1 else None
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == _FORBIDDEN_VERSION or (version == _OUR_VERSION and more):
        return None
    if not trace_id.strip(b"0") or not parent_id.strip(b"0"):
        return None
    return TraceContext(
        trace_id.decode(),
        new_span_id(),
        parent_id.decode(),
        sampled=bool(int(flags, 16) & _SAMPLED),
        state=_state(fields),
    )


def _state(fields: Fields) -> str:
    state = b",".join(value for name, value in fields if name == TRACESTATE)
    return state.decode("ascii", "replace") if len(state) <= _STATE_BYTES else ""


def new_span_id() -> str:
    """A span id: 16 hexadecimal digits."""
    return _new_id(64)


def _new_id(bits: int) -> str:
    """Random, and not zero, which would be no id. It is no secret."""
    return f"{random.getrandbits(bits) or 1:0{bits // 4}x}"
