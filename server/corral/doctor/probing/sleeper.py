"""A process that sleeps until a stamp comes, as a worker does: ``python sleeper.py CPU``.

Every eight bytes on standard input are the sender's clock; its answer on standard output is how
many nanoseconds later this process had read them. Uses nothing of corral's, so that it starts
at once.
"""

from __future__ import annotations

import os
import struct
import sys
import time

_STAMP = struct.Struct("<q")


def main() -> None:
    """Answers until standard input ends, or nobody reads any more."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    while len(data := os.read(0, _STAMP.size)) == _STAMP.size:
        late_ns = time.monotonic_ns() - _STAMP.unpack(data)[0]
        try:
            os.write(1, _STAMP.pack(late_ns))
        except BrokenPipeError:
            return


if __name__ == "__main__":
    main()
