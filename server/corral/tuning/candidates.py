"""Which engine and precision serve: candidates, what was measured of each, who wins. Pure."""

from __future__ import annotations

from collections.abc import Sequence, Set

import msgspec

from corral.accuracy import AccuracyReport, Fidelity, Thresholds, faults
from corral.backends.registry import ENGINES
from corral.settings import BackendName, Mode, Precision
from corral.system.other_load import Measured


class Candidate(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """An engine with a precision."""

    backend: BackendName
    precision: Precision

    @property
    def name(self) -> str:
        """ "openvino int8"."""
        return f"{self.backend.value} {self.precision.value}"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a candidate after a search."""

    candidate: Candidate
    #: the best over the batch sizes that the mode allows; 0 where it was not measured
    images_per_s: float = 0.0
    #: of a batch of one, the engine alone
    p50_ms: float = 0.0
    #: the batch size that gives ``images_per_s``
    batch: int = 1
    #: against FP32; None for FP32
    fidelity: Fidelity | None = None
    #: why it is not what its name says, as an INT8 with no layer in INT8; empty where it is
    remark: str = ""
    #: why it cannot be chosen; empty when it can
    excluded: str = ""
    #: the reason may pass (it was killed, or out of memory): the search is not remembered
    passing: bool = False


class Search(Measured, frozen=True, kw_only=True):
    """A search's outcome, as cached and as shown."""

    winner: Candidate
    #: the best first, then those that were excluded
    rows: list[Row]
    #: seconds that it took, preparing excluded
    took_s: float = 0.0

    @property
    def margin(self) -> float | None:
        """How much faster the winner is than the runner-up, 0.9 for 90 %; None if it was alone."""
        measured = [row for row in self.rows if not row.excluded and row.images_per_s > 0]
        if len(measured) < 2:
            return None
        return measured[0].images_per_s / measured[1].images_per_s - 1

    def sentence(self) -> str:
        """Winner, margin and those that were left out, in one line."""
        measured = [row for row in self.rows if not row.excluded]
        text = self.winner.name
        if self.margin is not None:
            best, second = measured[0], measured[1]
            text += (
                f", {best.images_per_s:.1f}/s: {self.margin:+.0%} over {second.candidate.name}, "
                f"{second.images_per_s:.1f}/s"
            )
        else:
            text += ", the only one to choose from"
        left_out = [f"{row.candidate.name}: {row.excluded}" for row in self.rows if row.excluded]
        return text + "".join(f"; {reason}" for reason in left_out)


def candidates(
    backend: BackendName,
    precision: Precision,
    isa: Set[str],
    installed: Set[str],
    *,
    every: bool = False,
) -> list[Candidate]:
    """What there is to choose from, FP32 first.

    Args:
        backend: AUTO, or the only one that may be chosen.
        precision: AUTO, or the only one that may be chosen.
        isa: the CPU's flags.
        installed: importable Python packages among those that engines need.
        every: also those that take minutes to prepare.
    """
    found = []
    for engine in ENGINES.values():
        if backend not in {BackendName.AUTO, engine.name}:
            continue
        for name, arithmetic in engine.arithmetic.items():
            if precision not in {Precision.AUTO, name}:
                continue
            if backend is BackendName.AUTO and not every and not arithmetic.quick:
                continue
            if not arithmetic.suits(isa, named=precision is name):
                continue
            # An engine that was asked for by name and is missing gets its own error later.
            if set(engine.needs(name)) <= installed or backend is engine.name:
                found.append(Candidate(backend=engine.name, precision=name))
    return found


def rank(rows: Sequence[Row], mode: Mode) -> list[Row]:
    """The best first; those excluded last. For rti the shortest batch of one wins.

    Equal ones keep their order, so that FP32 wins a tie.
    """

    def worth(row: Row) -> tuple[bool, float]:
        speed = row.images_per_s if mode is Mode.THROUGHPUT else 1 / max(row.p50_ms, 1e-9)
        return bool(row.excluded), -speed

    return sorted(rows, key=worth)


def guard_report(
    found: Search, asked: Precision, thresholds: Thresholds, *, synthetic: bool
) -> AccuracyReport | None:
    """The guard's words on a search's winner, or on what FP32 serves in place of.

    None where FP32 was never in question: nothing else was there, or FP32 is faster than what
    agrees with it.

    Args:
        found: the search.
        asked: the precision asked for; what fails is no fallback where none was named.
        thresholds: the least that passes.
        synthetic: the weights carry no knowledge.
    """
    judged = [
        (row, [] if row.fidelity is None else faults(row.fidelity, thresholds, synthetic=synthetic))
        for row in found.rows
        if row.candidate.precision is not Precision.FP32
    ]
    for row, too_low in judged:
        if row.candidate == found.winner:
            return AccuracyReport(
                candidate=row.candidate.name, fidelity=row.fidelity, faults=too_low
            )
    if any(not row.excluded for row, _ in judged):
        return None
    for row, too_low in judged:
        if too_low:
            return AccuracyReport(
                candidate=row.candidate.name,
                fidelity=row.fidelity,
                faults=too_low,
                fell_back=True,
            )
    if asked is Precision.AUTO or not judged:
        return None
    failed, _ = judged[0]
    return AccuracyReport(
        candidate=failed.candidate.name, fidelity=None, faults=[failed.excluded], fell_back=True
    )
