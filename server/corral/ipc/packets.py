"""A batch and its result, as frontend and worker say them: fixed structs over a data socketpair."""

from __future__ import annotations

import enum
import struct

#: batch number, datatype, number of items in the region
BATCH = struct.Struct("<QHH4x")
#: batch number, status, nanoseconds the engine took, and when it began (the monotonic clock's);
#: behind it, of REFUSED, the engine's reason in UTF-8
RESULT = struct.Struct("<QHxxxxxxQQ")
#: of a reason; an engine's sentence is shorter
MOST_REASON_BYTES = 400


class ResultStatus(enum.IntEnum):
    """How a batch ended."""

    OK = 0
    FAILED = 1
    #: the engine takes no such values; others' fault it is not
    REFUSED = 2
