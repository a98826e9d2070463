"""The kernel's lists of CPUs, as text and as numbers."""

from __future__ import annotations

from collections.abc import Iterable

#: far above the kernel's 8,192; a damaged file may name any number
_MOST = 2**16


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Numbers from the kernel's ``0-3,8``; an empty text is no numbers.

    Raises:
        ValueError: it is something else, or names a CPU that no kernel has.
    """
    numbers: set[int] = set()
    for part in text.replace("\0", "").strip().split(","):
        first, _, last = part.strip().partition("-")
        if first:
            end = int(last or first)
            if end >= _MOST:
                raise ValueError(f"no CPU has the number {end}")
            numbers.update(range(int(first), end + 1))
    return tuple(sorted(numbers))


def parse_cpu_mask(text: str) -> tuple[int, ...]:
    """Numbers from the kernel's ``00000000,0000ffff``, highest word first.

    Raises:
        ValueError: as ``parse_cpu_list``.
    """
    bits = int(text.replace("\0", "").strip().replace(",", "") or "0", 16)
    if bits.bit_length() > _MOST:
        raise ValueError(f"no CPU has the number {bits.bit_length() - 1}")
    return tuple(i for i in range(bits.bit_length()) if bits >> i & 1)


def format_cpus(cpus: Iterable[int]) -> str:
    """CPU numbers as the kernel writes them: ``0-3,8``."""
    spans: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if spans and cpu == spans[-1][1] + 1:
            spans[-1][1] = cpu
        else:
            spans.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
