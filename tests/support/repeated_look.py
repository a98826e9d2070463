"""Something is looked at again and again, in a thread, while a test goes on."""

from __future__ import annotations

import threading
from typing import Self


class RepeatedLook:
    """The base of what looks: ``with CounterWatch(port) as watch: ...``.

    Args:
        every_s: seconds between two looks.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    def _look(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._look()
