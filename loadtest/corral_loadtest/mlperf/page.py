"""A run of LoadGen's scenarios as a page, JSON and the summaries that LoadGen wrote."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shutil
from collections.abc import Sequence
from pathlib import Path

from corral_loadtest.mlperf.loadgen import Verdict
from corral_loadtest.result import Machine, encode

#: each scenario's own metric, by the names that LoadGen's versions give it
FIGURES = {
    "SingleStream": ("90.0th percentile latency (ns)", "90th percentile latency (ns)"),
    "MultiStream": ("99.0th percentile latency (ns)", "99th percentile latency (ns)"),
    "Server": ("Completed samples per second", "Scheduled samples per second"),
    "Offline": ("Samples per second",),
}
_SUMMARY = "mlperf_log_summary.txt"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """What a page says beside the runs.

    Attributes:
        date: ISO 8601.
        machine: of server and LoadGen.
        command: that made it.
        server: how the server was started; empty if somebody else started it.
    """

    date: str
    machine: Machine
    command: str
    server: str

    @property
    def stem(self) -> str:
        """mlperf-DATE-CPU, the files' common name."""
        return f"mlperf-{self.date[:10]}-{self.machine.slug}"


def figure(found: Verdict) -> str:
    """The scenario's own metric, with its unit."""
    value = found.number(*FIGURES[found.scenario])
    if value is None:
        return "absent"
    if found.scenario in ("SingleStream", "MultiStream"):
        return f"{value / 1e6:.2f} ms (p{90 if found.scenario == 'SingleStream' else 99})"
    return f"{value:.2f} samples/s"


def row(found: Verdict) -> list[str]:
    """Scenario, LoadGen's verdict, metric, p50 and p99 in ms, remarks."""
    latencies = [
        found.number(f"{percentile}.00 percentile latency (ns)") for percentile in (50, 99)
    ]
    return [
        found.scenario,
        "VALID" if found.valid else "INVALID",
        figure(found),
        *("" if value is None else f"{value / 1e6:.2f}" for value in latencies),
        "; ".join(found.remarks),
    ]


HEADS = ("scenario", "LoadGen", "metric", "p50 ms", "p99 ms", "remarks")


def markdown(page: Page, found: Sequence[Verdict]) -> str:
    """The page of a run."""
    lines = [
        "| " + " | ".join(HEADS) + " | LoadGen's summary |",
        "| --- " * (len(HEADS) + 1) + "|",
    ]
    for one in found:
        summary = f"[{one.scenario}]({page.stem}/{one.scenario}.txt)"
        lines.append("| " + " | ".join(row(one)) + f" | {summary} |")
    short = dict.fromkeys(reason for one in found for reason in one.short_of)
    table, reasons = "\n".join(lines), "".join(f"- {reason}\n" for reason in short)
    server = f" Server: `{page.server}`." if page.server else ""
    return f"""# MLPerf's LoadGen, {page.date[:10]}

{page.machine.cpu}, {page.machine.cpus} cores shared by server and LoadGen, Linux
{page.machine.kernel}, Python {page.machine.python}, mlcommons-loadgen
{importlib.metadata.version("mlcommons-loadgen")}. Made by
`{page.command}`.{server}

{table}

Scenarios, arrivals, percentiles and verdicts are LoadGen's own. No run here is a submission:

{reasons}- no accuracy run and no audit
"""


def write(page: Page, found: Sequence[Verdict], folder: Path) -> Path:
    """Writes page, JSON and a folder of LoadGen's summaries; returns the page."""
    summaries = folder / page.stem
    summaries.mkdir(parents=True, exist_ok=True)
    for one in found:
        shutil.copyfile(Path(one.folder) / _SUMMARY, summaries / f"{one.scenario}.txt")
    (folder / f"{page.stem}.json").write_bytes(encode({"page": page, "runs": found}))
    path = folder / f"{page.stem}.md"
    path.write_text(markdown(page, found), encoding="utf-8")
    return path
