"""What a climb found, as the JSON has it, and the ratios that people read off it. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import msgspec

from corral.accuracy import Fidelity


class SizeResult(msgspec.Struct, frozen=True, kw_only=True):
    """One batch size on one rung."""

    batch: int
    #: median over the repeats, all workers together
    images_per_s: float
    #: images/s of each repeat
    repeats: list[float]
    #: of a batch in the engine, over all repeats
    p50_ms: float
    p99_ms: float
    #: of the machine's processors, all that they did meanwhile; None where it cannot be read
    joules_an_image: float | None = None


class RungResult(msgspec.Struct, frozen=True, kw_only=True):
    """One rung: measured, or why not."""

    key: str
    title: str
    change: str
    #: key of the rung that it is built on; None for the baseline
    base: str | None = None
    settings: dict[str, str]
    #: images/s in the article; None where it has no such step
    article: float | None
    #: why it cannot run here; empty when it ran
    reason: str = ""
    sizes: list[SizeResult] = []
    #: proportional (PSS) after warm-up, all workers together
    memory_bytes: int = 0
    #: making the artefact, or finding it in the cache
    prepare_s: float = 0.0
    #: from spawn to ready, warm-up included; the slowest worker's
    start_s: float = 0.0
    #: against the baseline's logits; None for the baseline itself
    fidelity: Fidelity | None = None
    #: why it is not what its title says, as an INT8 with no layer in INT8; empty where it is
    remark: str = ""

    @property
    def ran(self) -> bool:
        """Whether it was measured."""
        return bool(self.sizes)

    @property
    def best(self) -> SizeResult:
        """The batch size with the most images/s."""
        return max(self.sizes, key=lambda size: size.images_per_s)

    @property
    def single(self) -> SizeResult:
        """Batch 1."""
        return min(self.sizes, key=lambda size: size.batch)


class Ladder(msgspec.Struct, frozen=True, kw_only=True):
    """A whole climb."""

    model: str
    weights: str
    synthetic: bool
    machine: dict[str, str]
    versions: dict[str, str]
    repeats: int
    seconds: float
    took_s: float
    #: the share of the CPUs' time, 0 to 1, that others took while rungs took turns; None in files
    #: of earlier versions
    other_load: float | None = None
    rungs: list[RungResult]

    def ratios(self) -> list[tuple[float | None, float | None]]:
        """Of each rung's best to that of the rung that it is built on, and to the first's.

        None where one of the two was not measured.
        """
        speeds = {rung.key: rung.best.images_per_s for rung in self.rungs if rung.ran}
        first = next(iter(speeds.values()), None)

        def ratio(key: str, to: float | None) -> float | None:
            return speeds[key] / to if key in speeds and to else None

        return [
            (ratio(rung.key, speeds.get(rung.base or "")), ratio(rung.key, first))
            for rung in self.rungs
        ]


def summarise(
    seconds: Mapping[int, Sequence[float]],
    rates: Mapping[int, Sequence[float]],
    joules: Mapping[int, Sequence[float]] | None = None,
) -> list[SizeResult]:
    """Medians and percentiles by batch size.

    Args:
        seconds: of every batch in the engine, by batch size.
        rates: images/s of every repeat, by batch size.
        joules: an image, of the repeats where they could be read, by batch size.
    """
    known = joules or {}
    return [
        SizeResult(
            batch=size,
            images_per_s=statistics.median(rates[size]),
            repeats=[round(rate, 3) for rate in rates[size]],
            p50_ms=percentile(seconds[size], 0.5) * 1000,
            p99_ms=percentile(seconds[size], 0.99) * 1000,
            joules_an_image=statistics.median(known[size]) if known.get(size) else None,
        )
        for size in sorted(rates)
    ]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(len(ordered) * share)) - 1]
