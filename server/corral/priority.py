"""The two priorities of requests: somebody waits for an interactive one, nobody for bulk."""

from __future__ import annotations

import enum


class Priority(enum.IntEnum):
    """Which requests come first; the numbers are those of the request parameter ``priority``."""

    INTERACTIVE = 1
    BULK = 2
