"""Two profiles beside one another: what became slower, and what faster. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from corral.profiling.kinds import kind_of
from corral.profiling.report import EngineFigures, OperatorRow, ProfileReport

#: smaller changes are noise, and so are changes of what takes next to no time
_LEAST_RATIO = 1.05
_LEAST_SHARE = 0.01
#: operators are the same where those that both have take at least this share of either's time
_SAME_SHARE = 0.5
#: what engines say of themselves, by their own names
_ENGINE = ("engine", "version", "precision", "threads")
#: of a profile; where only one has it, it is not compared
_PARTS = ("operators", "requests")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that takes another time than before, or is new or gone (then a side is None)."""

    kind: str
    name: str
    before_us: float | None
    after_us: float | None

    @property
    def more_us(self) -> float:
        """How much longer it takes; less than 0 where it is faster."""
        return (self.after_us or 0.0) - (self.before_us or 0.0)

    def sentence(self) -> str:
        """For a person: "layer2.0 Convolution: 1,200 µs instead of 800 µs (+50 %)"."""
        if self.before_us is None:
            return f"{self.name}: new, {self.after_us:,.0f} µs"
        if self.after_us is None:
            return f"{self.name}: gone, it took {self.before_us:,.0f} µs"
        change = (self.after_us / self.before_us - 1) if self.before_us else float("inf")
        return (
            f"{self.name}: {self.after_us:,.0f} µs instead of {self.before_us:,.0f} µs "
            f"({100 * change:+.0f} %)"
        )


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What ``corral profile --compare --json`` prints."""

    #: what both have: "operators", "requests"
    compared: list[str]
    #: what else differs, in words
    differences: list[str]
    #: what the first and the second profile say of themselves
    notes: list[list[str]]
    #: what became slower first
    changes: list[Change]


def compare(before: ProfileReport, after: ProfileReport) -> Comparison:
    """Every change that matters, and what a reader should know of both."""
    changes = [*_operators(before, after), *_phases(before, after)]
    one, other = _circumstances(before), _circumstances(after)
    return Comparison(
        compared=[what for what in _PARTS if what in one and what in other],
        differences=[*_differences(one, other), *_why_by_kind(before, after)],
        notes=[before.notes, after.notes],
        changes=sorted(changes, key=lambda change: -change.more_us),
    )


def _differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """What else differs, in words: then not all that became slower is the engine's doing."""
    found = [
        f"{name}: {other[name]} instead of {one[name]}"
        for name in dict.fromkeys((*one, *other))
        if name in one and name in other and one[name] != other[name]
    ]
    for what in _PARTS:
        missing = [name for name, has in (("first", one), ("second", other)) if what not in has]
        if len(missing) == 1:
            found.append(f"{what}: the {missing[0]} has none, and they are not compared")
    return found


def _circumstances(report: ProfileReport) -> dict[str, str]:
    """What a profile's times hang on, by name."""
    found = {
        "CPU": report.cpu,
        "model": report.model,
        "mode": report.mode,
        "workers": str(report.workers),
        "requests of": report.served_by,
    }
    if report.budget is not None:
        found["requests"] = ""
    if report.engine is not None:
        engine = report.engine
        found |= {name: engine.described.get(name, "-") for name in _ENGINE}
        found |= {"operators": "", "batch": str(engine.batch), "cores": str(len(engine.cpus))}
    return found


def _operators(before: ProfileReport, after: ProfileReport) -> Iterator[Change]:
    if before.engine is None or after.engine is None:
        return
    one, other = before.engine, after.engine
    if _why_by_kind(before, after):
        yield from _changes("kind", _kinds(one.operators), _kinds(other.operators))
        yield from _changes("operators", {"all operators": _whole_us(one)},
                            {"all operators": _whole_us(other)})  # fmt: skip
    else:
        yield from _changes("operator", _times(one.operators), _times(other.operators))
    yield from _changes("inference", {"the whole batch": one.inference.p50_us},
                        {"the whole batch": other.inference.p50_us})  # fmt: skip


def _why_by_kind(before: ProfileReport, after: ProfileReport) -> list[str]:
    """Why operators cannot be compared one by one, in words; empty where they can be.

    Of another engine or model they have other names, and so has what one engine fuses otherwise.
    """
    one, other = before.engine, after.engine
    if one is None or other is None:
        return []
    if one.described.get("engine") != other.described.get("engine"):
        why = "two engines have other names for them"
    elif before.model != after.model:
        why = "two models have none in common"
    elif not _are_the_same(_times(one.operators), _times(other.operators)):
        why = "most have names that only one of both has"
    else:
        return []
    return [f"operators: {why}, so that they are compared by kind"]


def _are_the_same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    both = one.keys() & other.keys()
    return all(
        sum(times[name] for name in both) >= _SAME_SHARE * sum(times.values())
        for times in (one, other)
    )


def _phases(before: ProfileReport, after: ProfileReport) -> Iterator[Change]:
    if before.budget is None or after.budget is None:
        return
    yield from _changes(
        "phase",
        {f"phase {phase.name}, p50": phase.p50_us for phase in before.budget.phases},
        {f"phase {phase.name}, p50": phase.p50_us for phase in after.budget.phases},
    )


def _whole_us(engine: EngineFigures) -> float:
    return sum(row.us for row in engine.operators)


def _kinds(rows: list[OperatorRow]) -> dict[str, float]:
    """Microseconds by kind of work."""
    found: dict[str, float] = {}
    for row in rows:
        kind = kind_of(row)
        found[kind] = found.get(kind, 0.0) + row.us
    return found


def _times(rows: list[OperatorRow]) -> dict[str, float]:
    """Microseconds by name and type; operators of one name are added up."""
    found: dict[str, float] = {}
    for row in rows:
        name = f"{row.name} {row.type}"
        found[name] = found.get(name, 0.0) + row.us
    return found


def _changes(
    kind: str, before: Mapping[str, float], after: Mapping[str, float]
) -> Iterator[Change]:
    least_us = _LEAST_SHARE * max(sum(before.values()), sum(after.values()))
    for name in dict.fromkeys((*before, *after)):
        one, other = before.get(name), after.get(name)
        if max(one or 0.0, other or 0.0) < least_us:
            continue
        alike = one and other and 1 / _LEAST_RATIO < other / one < _LEAST_RATIO
        if not alike:
            yield Change(kind=kind, name=name, before_us=one, after_us=other)
