"""A bar: a figure in rounds and the bound it is held to; and the page of all of them. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

import msgspec

from corral_loadtest.bars import scaling
from corral_loadtest.result import Machine


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table.

    Attributes:
        row: the scenario it comes from, as ``--rows`` names it.
        name: what was measured, with its unit.
        values: one a round.
        bound: None where there is only a figure.
        at_least: the bound is from below.
        pooled: judged instead of the rounds' median, where one round has too few requests for a
            percentile: the same figure of all rounds' requests together.
        detail: the absolute figures behind a ratio.
    """

    row: str
    name: str
    values: list[float]
    bound: float | None = None
    at_least: bool = True
    pooled: float | None = None
    detail: str = ""

    @property
    def judged(self) -> float:
        """What is held to the bound."""
        return statistics.median(self.values) if self.pooled is None else self.pooled

    @property
    def cleared(self) -> bool | None:
        """Whether the bound is kept; None without one."""
        if self.bound is None:
            return None
        return self.judged >= self.bound if self.at_least else self.judged <= self.bound


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one run of ``corral-loadtest bars`` found.

    Attributes:
        date: ISO 8601.
        machine: that everything ran on.
        command: that made it.
        rounds: repeats.
        seconds: of one measurement with the null backend.
        generator: of the closed loops.
        bars: in the table's order.
        failed: by row, why it could not be measured.
        cost: what the modelled curve starts from; None where it was not measured.
    """

    date: str
    machine: Machine
    command: str
    rounds: int
    seconds: float
    generator: str
    bars: list[Bar]
    failed: dict[str, str]
    cost: scaling.Cost | None = None


def shown(values: Iterable[float]) -> str:
    """Their median, for people."""
    return f"{statistics.median(values):.4g}"


def stem(found: Report) -> str:
    """bars-DATE-CPU, the files' common name."""
    return f"bars-{found.date[:10]}-{found.machine.slug}"


def row_command(found: Report, row: str) -> str:
    """What measures one row alone, as it was measured here."""
    return f"corral-loadtest bars --rows {row} --rounds {found.rounds} --seconds {found.seconds:g}"


def bound(bar: Bar) -> str:
    """For people; empty without one."""
    if bar.bound is None:
        return ""
    return f"{'≥' if bar.at_least else '≤'} {bar.bound:g}"


def verdict(bar: Bar) -> str:
    """ "pass", "MISS" or, without a bound, nothing."""
    return {None: "", True: "pass", False: "MISS"}[bar.cleared]


def spread(bar: Bar) -> str:
    """Least and most of the rounds."""
    return f"{min(bar.values):.3g} to {max(bar.values):.3g}"


def table(found: Report) -> str:
    """All bars as Markdown."""
    lines = [
        "| what | bar | measured | rounds | | the figures behind it | command: `--rows` |",
        "| --- | --- | ---: | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {bar.name} | {bound(bar)} | {bar.judged:.4g} | {spread(bar)} | {verdict(bar)} "
        f"| {bar.detail} | {bar.row} |"
        for bar in found.bars
    ]
    return "\n".join(lines)


def page(found: Report) -> str:
    """The Markdown page of a run."""
    rows = dict.fromkeys(bar.row for bar in found.bars)
    commands = "\n".join(row_command(found, row) for row in rows)
    failed = "".join(f"- not measured: {row}: {why}\n" for row, why in found.failed.items())
    curve = f"\n## More cores, modelled\n\n{scaling.table(found.cost)}\n" if found.cost else ""
    return f"""# Bars, {found.date[:10]}

{found.machine.cpu}, {found.machine.cpus} cores, Linux {found.machine.kernel}, Python
{found.machine.python}, grpcio {found.machine.grpcio}. Made by `{found.command}`; every round's
figure is in [{stem(found)}.json]({stem(found)}.json).

{table(found)}

{failed}
- Medians of {found.rounds} rounds; within a row, what is compared is measured in turns, and a ratio
  is the median of each round's own. Percentiles of the Poisson rows are of all rounds' requests.
- Servers and load generator share the machine. Rows served, null and rest: {found.generator};
  JPEG and the other rows: corral-loadtest's own generator.
- "Baseline" is `corral_loadtest.servers.baseline`; "baseline, tuned" is the same program under the
  setting of the C library's malloc that corral's own frontend starts with.

```sh
{commands}
```
{curve}"""
