"""Permission to use AMX, which a process of x86-64 Linux must ask its kernel for."""

from __future__ import annotations

import ctypes
import platform

_ARCH_PRCTL = 158
_GET_PERMITTED = 0x1022
_REQUEST = 0x1023
_TILE_DATA = 18


def permitted() -> bool | None:
    """Whether this process may use AMX now; None where the kernel does not say."""
    if platform.machine() != "x86_64":
        return None
    mask = ctypes.c_uint64()
    if _call(_GET_PERMITTED, ctypes.byref(mask)):
        return None
    return bool(mask.value >> _TILE_DATA & 1)


def request() -> bool:
    """Asks for it; True when this process may use AMX from now on."""
    if platform.machine() != "x86_64":
        return False
    return not _call(_REQUEST, ctypes.c_ulong(_TILE_DATA)) and bool(permitted())


def _call(operation: int, argument: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(_ARCH_PRCTL, operation, argument))
