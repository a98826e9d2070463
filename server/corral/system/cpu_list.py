"""The kernel's lists of CPUs, as text and as numbers."""

from __future__ import annotations

from collections.abc import Iterable


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Numbers from the kernel's ``0-3,8``; an empty text is no numbers."""
    numbers: set[int] = set()
    for part in text.replace("\0", "").strip().split(","):
        first, _, last = part.strip().partition("-")
        if first:
            numbers.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(numbers))


def parse_cpu_mask(text: str) -> tuple[int, ...]:
    """Numbers from the kernel's ``00000000,0000ffff``, highest word first."""
    bits = int(text.replace("\0", "").strip().replace(",", "") or "0", 16)
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
