"""What searches on this machine found, and whether an engine has become slower since."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from corral.artifacts.json_cache import JsonCache
from corral.artifacts.order import versions
from corral.backends.registry import engine
from corral.settings import Settings
from corral.slo.report import TuneReport
from corral.slo.space import Arithmetic

#: raise it whenever entries are written in another form
FORMAT = 1
#: a difference below this share is the machine's
_SLOWER = 0.05
#: where others took more of the CPUs than this, an engine's speed is theirs as well
_BUSY = 0.1
_MOST_ENTRIES = 100


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """What workers of one engine took for an item."""

    engine: str
    #: of the engine's own distribution
    version: str
    cores: int
    #: median milliseconds of a batch of one, all workers busy
    item_ms: float


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One search."""

    #: unix time
    at_s: float
    p99_ms: float
    rate: float | None
    name: str
    speeds: list[Speed]
    #: the share of the CPUs that others took; what earlier versions wrote does not say
    other_load: float = 0.0


class LoneItem(msgspec.Struct, frozen=True, kw_only=True):
    """What one inference took on a worker that had nothing else to do."""

    engine: str
    #: of the engine's own distribution
    version: str
    #: the name of its folder, after all that is in it
    artefact: str
    cores: int
    item_ms: float

    def of_the_same_as(self, other: LoneItem) -> bool:
        """Whether both are of the same engine, artefact and workers."""
        return msgspec.structs.replace(self, item_ms=other.item_ms) == other


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """The searches of a machine for a model, the oldest first; lone items, the last of each."""

    entries: list[Entry] = []
    lone: list[LoneItem] = []


class History:
    """The searches on this machine, kept beside the artefacts.

    Args:
        settings: name the cache folder and the model.
        cpu_model: the CPU's name.
        cores: that may be used.
    """

    def __init__(self, settings: Settings, cpu_model: str, cores: int) -> None:
        folder = Path(settings.model.cache_dir) / "tune"
        self._cache = JsonCache(folder, Past, format_number=FORMAT, title="history of searches")
        self._ingredients = {"cpu": cpu_model, "cores": str(cores), "model": settings.model.name}

    def load(self) -> Past:
        """What there is."""
        return self._cache.read("history", self._ingredients) or Past()

    def add(self, report: TuneReport, speeds: Sequence[Speed]) -> None:
        """Keeps a search."""
        winner = report.winner
        entry = Entry(
            at_s=time.time(),
            p99_ms=report.p99_ms,
            rate=winner.rate if winner else None,
            name=winner.name if winner else "",
            speeds=list(speeds),
            other_load=report.other_load,
        )
        past = self.load()
        entries = [*past.entries, entry][-_MOST_ENTRIES:]
        self._write(msgspec.structs.replace(past, entries=entries))

    def learn_lone(self, item: LoneItem) -> None:
        """Keeps what one inference took, in place of what it took earlier."""
        past = self.load()
        others = [one for one in past.lone if not one.of_the_same_as(item)]
        self._write(msgspec.structs.replace(past, lone=[*others, item][-_MOST_ENTRIES:]))

    def _write(self, past: Past) -> None:
        self._cache.write("history", self._ingredients, past)


def lone_item(arithmetic: Arithmetic, artefact: str | None, cores: int, seconds: float) -> LoneItem:
    """A lone item, with the version of its engine that is installed."""
    distribution = engine(arithmetic.backend).distribution
    return LoneItem(
        engine=arithmetic.name,
        version=versions([distribution])[distribution],
        artefact=Path(artefact or "").parent.name,
        cores=cores,
        item_ms=round(seconds * 1000, 3),
    )


def speed(arithmetic: Arithmetic, cores: int, busy_s: Mapping[int, Sequence[float]]) -> Speed:
    """What a measurement says of an engine, with the version that is installed."""
    distribution = engine(arithmetic.backend).distribution
    return Speed(
        engine=arithmetic.name,
        version=versions([distribution])[distribution],
        cores=cores,
        item_ms=round(statistics.median(busy_s[1]) * 1000, 3),
    )


def slower(
    past: Past, speeds: Sequence[Speed], date: Callable[[float], str], other_load: float = 0.0
) -> list[str]:
    """Engines whose version is another one than the last time, and slower; a sentence each.

    What engines of the same version take now, beside what they took then, is the machine's doing,
    and is taken out. Nothing is said of what was measured while others were busy.

    Args:
        past: earlier searches.
        speeds: of this one.
        date: of a unix time, in words.
        other_load: the share of the CPUs that others took while these were measured, 0 to 1.
    """
    if other_load > _BUSY:
        return []
    latest: dict[tuple[str, int], tuple[float, Speed]] = {}
    for entry in past.entries:
        if entry.other_load <= _BUSY:
            latest |= {(then.engine, then.cores): (entry.at_s, then) for then in entry.speeds}
    pairs = [
        (now, *latest[now.engine, now.cores]) for now in speeds if (now.engine, now.cores) in latest
    ]
    same = [now.item_ms / then.item_ms for now, _, then in pairs if then.version == now.version]
    machine = statistics.median(same) if same else 1.0
    found = []
    for now, at_s, then in pairs:
        more = now.item_ms / then.item_ms / machine - 1
        if then.version != now.version and more > _SLOWER:
            beside = f", beside the machine, which is at {machine:.2f} of it" if same else ""
            found.append(
                f"{now.engine} {now.version} takes {now.item_ms:.2f} ms an item on {now.cores} "
                f"cores, {more:.0%} more than {then.version} took on {date(at_s)}{beside}"
            )
    return found
