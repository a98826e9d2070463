"""What the processors have consumed, from the powercap files of RAPL (Intel's, and AMD's alike).

Since 2020 (CVE-2020-8694) only root may read the counters. Virtual machines mostly have none.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from corral.system import tree

_ZONES = "class/powercap/intel-rapl:*"
#: not intel-rapl:0:1, which is a part of a package, nor intel-rapl-mmio:0, which is one once more
_WHOLE = re.compile(r"class/powercap/intel-rapl:\d+")
#: not "psys", the whole board, which has the packages in it
_PACKAGE = "package"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Energy:
    """A package's counter, microjoules; it begins at 0 again when it has reached ``range_uj``."""

    uj: int
    range_uj: int

    def since(self, before: Energy) -> float:
        """Joules since ``before``; right if the counter wrapped once at most."""
        grown = self.uj - before.uj
        if grown < 0:
            grown += self.range_uj
        return max(0, grown) / 1e6


def parse(texts: Mapping[str, str]) -> dict[str, Energy]:
    """The counters in powercap's files; what is incomplete or no number is left out.

    Args:
        texts: text by path below /sys, of ``name``, ``energy_uj`` and ``max_energy_range_uj``.

    Returns:
        counters by the package's name, "package-0".
    """
    found = {}
    for path, name in texts.items():
        zone, _, file = path.rpartition("/")
        numbers = [texts.get(f"{zone}/{key}", "") for key in ("energy_uj", "max_energy_range_uj")]
        if file != "name" or not name.startswith(_PACKAGE):
            continue
        if _WHOLE.fullmatch(zone) and all(re.fullmatch("[0-9]+", number) for number in numbers):
            found[name] = Energy(uj=int(numbers[0]), range_uj=int(numbers[1]))
    return found


def read(root: Path = Path("/sys")) -> tuple[dict[str, Energy], str]:
    """The counters of all packages, and why there are none: empty where there are.

    Args:
        root: /sys, or a copy of another machine's.
    """
    zones = [zone for zone in tree.matching(root, _ZONES) if _WHOLE.fullmatch(zone)]
    names = ("name", "energy_uj", "max_energy_range_uj")
    texts, refused = tree.read_texts(root, [f"{zone}/{name}" for zone in zones for name in names])
    found = parse(texts)
    if found:
        return found, ""
    if refused:
        path, reason = next(iter(refused.items()))
        return {}, f"/sys/{path}: {reason}"
    return {}, "this machine shows no RAPL counters"


class Meter:
    """Adds up what the packages consume from when it is made; one thread at a time asks.

    It must be asked more often than the counters wrap: 262 kJ, which 300 W take a quarter of an
    hour for, or 65 kJ on older processors.

    Args:
        root: /sys, or a copy of another machine's.
    """

    def __init__(self, root: Path = Path("/sys")) -> None:
        self._root = root
        self._last, self.reason = read(root)
        self._joules = dict.fromkeys(self._last, 0.0)

    def joules(self) -> dict[str, float]:
        """Joules by package, of those that can be read now; ``reason`` says why there are none."""
        found, self.reason = read(self._root)
        for name, energy in found.items():
            more = energy.since(self._last.get(name, energy))
            self._joules[name] = self._joules.get(name, 0.0) + more
        self._last.update(found)
        return {name: self._joules[name] for name in found}

    def total(self) -> float | None:
        """Joules of all packages; None where nothing can be read."""
        found = self.joules()
        return sum(found.values()) if found else None
