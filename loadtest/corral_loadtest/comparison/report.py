"""The comparison's results: JSON, figures per subject, and the Markdown page."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

import msgspec

from corral_loadtest.comparison.rounds import (
    CAPACITY,
    IDLE,
    SHARES,
    RawVisit,
    Visit,
    share_name,
)
from corral_loadtest.generator import histograms
from corral_loadtest.result import Machine

_METHOD = """\
## Method

- Work: one FP32 tensor [1,3,224,224] a request, 602 KB, and 1,000 logits back; the same OpenVINO
  artefact everywhere. Before a server is measured it has to name the class that the raw engine
  names for the same tensor.
- {rounds}. In each, the raw engine first, then every server,
  started anew and alone, in an order that changes with the round. Alone, because idle servers take
  CPU too and share pages, which would make another's memory look smaller.
- Server and load generator share the same {cores} cores: what the generator uses, the server
  lacks, as with any client on the same machine. One generator drives all rows, gRPC on bytes or
  HTTP/1.1 on kept connections.
- requests/s: closed loop, {clients} clients, {seconds} s, begun 1 s after the
  clients; median of the rounds; "÷ raw" is the median of each round's own ratio.
- idle: closed loop, 1 client. {shares}: Poisson arrivals at that share of the raw engine's rate in
  the same round, latency from the intended time of each request, so that nothing is omitted.
  Percentiles are of all rounds' requests together.
- CPU ms a request: user and system time of the server's process tree at capacity. PSS: of the tree
  after the capacity run. Start: from the command to the first right answer, model compiled.
"""


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """A subject, for people."""

    name: str
    title: str
    version: str
    protocol: str
    note: str
    computes: bool = True


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All that one run of the comparison found.

    Attributes:
        date: ISO 8601.
        machine: that everything ran on.
        cores: that the server and the generator shared.
        clients: of the capacity runs.
        seconds: of each measurement.
        versions: of the engine and what else matters, by name.
        command: that made it.
        subjects: that were measured, in the table's order.
        missing: by title, why somebody is not in it.
        raw: every visit to the raw engine and to benchmark_app.
        visits: every visit to a server.
    """

    date: str
    machine: Machine
    cores: int
    clients: int
    seconds: float
    versions: dict[str, str]
    command: str
    subjects: tuple[Described, ...]
    missing: dict[str, str]
    raw: tuple[RawVisit, ...]
    visits: tuple[Visit, ...]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A subject's figures over all rounds; None where there is nothing to say.

    Attributes:
        name: of the subject.
        title: for people.
        per_s: median capacity.
        range_per_s: its least and most.
        to_raw: median of each round's ratio to raw.
        latency_ms: (p50, p99) by load, of all rounds' requests together.
        saturated: loads that it did not keep up with in most rounds.
        cpu_ms: a request, median, at capacity.
        memory_mib: median.
        start_s: median.
    """

    name: str
    title: str
    per_s: float
    range_per_s: tuple[float, float]
    to_raw: float | None
    latency_ms: dict[str, tuple[float, float | None]]
    saturated: tuple[str, ...]
    cpu_ms: float | None
    memory_mib: float | None
    start_s: float | None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def rows(found: Comparison) -> list[Row]:
    """One row a subject: the raw engine first, then the others in their order."""
    raw_by_round = {one.round: one.per_s for one in found.raw if one.name == "raw"}
    table = []
    for name, title in (("raw", "raw engine"), ("benchmark_app", "benchmark_app, throughput")):
        if alone := [one for one in found.raw if one.name == name]:
            table.append(_raw_row(name, title, alone, raw_by_round))
    for subject in found.subjects:
        if visits := [one for one in found.visits if one.name == subject.name]:
            table.append(_row(subject, visits, raw_by_round))
    return table


def _raw_row(
    name: str, title: str, found: Sequence[RawVisit], raw_by_round: dict[int, float]
) -> Row:
    rates = [one.per_s for one in found]
    p99_ms = _median(one.p99_ms for one in found)
    latency: dict[str, tuple[float, float | None]] = {}
    if p99_ms is not None:
        latency[IDLE] = (statistics.median(one.p50_ms for one in found), p99_ms)
    return Row(
        name=name,
        title=title,
        per_s=statistics.median(rates),
        range_per_s=(min(rates), max(rates)),
        to_raw=_median(
            one.per_s / raw_by_round[one.round] for one in found if one.round in raw_by_round
        ),
        latency_ms=latency,
        saturated=(),
        cpu_ms=_median(one.cpu_ms for one in found),
        memory_mib=_median(one.memory_mib for one in found),
        start_s=_median(one.start_s for one in found),
    )


def _row(subject: Described, visits: Sequence[Visit], raw_by_round: dict[int, float]) -> Row:
    full = [one.loads[CAPACITY] for one in visits]
    latency: dict[str, tuple[float, float | None]] = {}
    saturated = []
    for load in (IDLE, *map(share_name, SHARES)):
        measured = [one.loads[load] for one in visits]
        total = histograms.summary(histograms.merged(one.histogram for one in measured))
        if total is not None:
            latency[load] = (total.p50_ms, total.p99_ms)
        if 2 * sum(one.saturated for one in measured) > len(measured):
            saturated.append(load)
    ratios = [
        one.loads[CAPACITY].per_s / raw_by_round[one.round]
        for one in visits
        if one.round in raw_by_round
    ]
    return Row(
        name=subject.name,
        title=subject.title,
        per_s=statistics.median(load.per_s for load in full),
        range_per_s=(min(load.per_s for load in full), max(load.per_s for load in full)),
        to_raw=_median(ratios) if subject.computes else None,
        latency_ms=latency,
        saturated=tuple(saturated),
        cpu_ms=_median(load.cpu_s / load.answered * 1000 for load in full if load.answered),
        memory_mib=_median(one.memory_mib for one in visits),
        start_s=statistics.median(one.start_s for one in visits),
    )


def stem(found: Comparison) -> str:
    """DATE-CPU, the files' common name."""
    return f"{found.date[:10]}-{found.machine.slug}"


def _number(value: float | None, form: str = ".1f") -> str:
    return "" if value is None else format(value, form)


def _latency(row: Row, load: str) -> str:
    if load not in row.latency_ms:
        return ""
    p50_ms, p99_ms = row.latency_ms[load]
    mark = " †" if load in row.saturated else ""
    return f"{p50_ms:.1f} / {_number(p99_ms)}{mark}"


def table(found: Comparison) -> str:
    """The rows as a Markdown table."""
    loads = (IDLE, *map(share_name, SHARES))
    heads = [
        "server", "requests/s", "range", "÷ raw", "idle p50 / p99 ms",
        *(f"{name} p50 / p99 ms" for name in loads[1:]), "CPU ms a request", "PSS MiB", "start s",
    ]  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "| --- " + "| ---: " * (len(heads) - 1) + "|"]
    for row in rows(found):
        cells = [
            row.title, _number(row.per_s), f"{row.range_per_s[0]:.1f} to {row.range_per_s[1]:.1f}",
            _number(row.to_raw, ".2f"), *(_latency(row, load) for load in loads),
            _number(row.cpu_ms, ".2f" if row.cpu_ms and row.cpu_ms < 10 else ".1f"),
            _number(row.memory_mib, ".0f"), _number(row.start_s),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def markdown(found: Comparison) -> str:
    """The page of results; its plots lie beside it."""
    name = stem(found)
    rounds = len({one.round for one in found.visits})
    versions = ", ".join(f"{what} {version}" for what, version in found.versions.items())
    how = "\n".join(
        f"| {one.title} | {one.version} | {one.protocol} | {one.note} |" for one in found.subjects
    )
    missing = "\n".join(f"- {title}: {why}" for title, why in found.missing.items())
    method = _METHOD.format(
        rounds=f"{rounds} round{'' if rounds == 1 else 's'}",
        cores=found.cores,
        clients=found.clients,
        seconds=f"{found.seconds:g}",
        shares=" and ".join(share_name(share) for share in SHARES),
    )
    return f"""# ResNet50 INT8, served by corral and by others: {found.date[:10]}

{found.machine.cpu}, {found.cores} cores used of {found.machine.cpus}, Linux {found.machine.kernel},
Python {found.machine.python}, {versions}. Made by `{found.command}`;
every figure of every round is in [{name}.json]({name}.json).

![Capacity]({name}-capacity.svg)

![Latency]({name}-latency.svg)

{table(found)}

† it did not keep up with this rate, or failed requests: the latencies grow with the length of the
run.

{method}
## How each was set up

| server | version | protocol | how |
| --- | --- | --- | --- |
{how}

Every patch and choice that a peer needed, with the reason: [peers.md](../peers.md).

{"Not measured:" + chr(10) + missing if missing else "Nobody is missing."}
"""
