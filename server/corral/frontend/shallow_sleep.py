"""Keeps the CPUs from sleeping deeply: the first request after a silence finds them awake.

The kernel holds every CPU to idle states that it leaves within so many microseconds, for as long as
somebody keeps /dev/cpu_dma_latency open (Documentation/power/pm_qos_interface.rst).
"""

from __future__ import annotations

import logging
import os
import struct
from pathlib import Path

from corral.dataplane.upkeep import warm_share
from corral.settings import KeepWarm, Settings

logger = logging.getLogger(__name__)

DEVICE = Path("/dev/cpu_dma_latency")
#: C1 and C1E are left within that on Intel's and AMD's CPUs, the states that lose caches are not
MOST_US = 10


class ShallowSleep:
    """Asks for it where ``--keep-warm on`` does, of whoever may; others are told once.

    Args:
        settings: whether workers are kept warm.

    Attributes:
        keeps_warm: whether they are, in any way: the first request after a silence matters.
    """

    def __init__(self, settings: Settings) -> None:
        self._fd: int | None = None
        self._is_told = False
        self.follow(settings)

    def follow(self, settings: Settings) -> None:
        """Goes by other settings."""
        self.keeps_warm = warm_share(settings) > 0
        wanted = settings.lifecycle.keep_warm is KeepWarm.ON
        if wanted and self._fd is None:
            self._ask()
        elif not wanted and self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _ask(self) -> None:
        try:
            fd = os.open(DEVICE, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            self._tell(error)
            return
        try:
            os.write(fd, struct.pack("=i", MOST_US))
        except OSError as error:
            os.close(fd)
            self._tell(error)
        else:
            self._fd = fd

    def _tell(self, error: OSError) -> None:
        if not self._is_told:
            self._is_told = True
            logger.info("--keep-warm on: CPUs may sleep deeply; %s: %s", DEVICE, error.strerror)
