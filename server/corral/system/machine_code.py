"""Short loops in machine code, to measure what a CPU does: x86-64 only.

A loop takes its number of rounds and the address of what it reads besides, in the registers of the
System V calling convention. It calls nothing, writes nothing to memory, and leaves the registers
that its caller relies on as they were.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
from collections.abc import Callable

#: with 16 dependent 32-bit multiplications a round, three cycles each on every x86-64 CPU since
#: 2011 (Intel from Sandy Bridge on, AMD from Zen on):
#:   mov eax, 3; 1: imul eax, eax (16 times); dec rdi; jnz 1b; ret
MULTIPLICATIONS = bytes.fromhex("b803000000" + "0fafc0" * 16 + "48ffcf75cbc3")
CYCLES_A_ROUND = 48

Loop = Callable[[int, int], None]


def available() -> bool:
    """Whether this CPU runs these loops."""
    return platform.machine() in {"x86_64", "AMD64"}


def load(code: bytes) -> Loop:
    """Makes a function of machine code. While it runs, other threads of Python may.

    Args:
        code: position-independent.

    Returns:
        the function: of rounds, one or more, and an address or 0.

    Raises:
        OSError: the kernel gives no memory to run code from, or the CPU is another kind.
    """
    if not available():
        raise OSError(f"no machine code for {platform.machine()}")
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    call = ctypes.CFUNCTYPE(None, ctypes.c_uint64, ctypes.c_uint64)(address)

    def run(rounds: int, argument: int = 0) -> None:
        # The page stays mapped for as long as the function is held.
        assert page is not None
        call(rounds, argument)

    return run
