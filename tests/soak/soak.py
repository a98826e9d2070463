"""Keeps every promise in its long form and writes down what was measured: ``make soak``.

python tests/soak/soak.py --seconds 3600 --only R1 R8
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import platform
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from promises import PROMISES, Promise, in_order, seconds_for
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from corral import __version__
from corral.planning import topology

ROOT = Path(__file__).parents[2]
_TICK_S = 0.5


@contextlib.contextmanager
def _moving(bar: Progress, task: Any, expected_s: float) -> Iterator[None]:
    """Moves a bar on while its promise is kept, up to what it should take."""
    done = threading.Event()

    def move() -> None:
        began_s = time.monotonic()
        start = bar.tasks[task].completed
        while not done.wait(_TICK_S):
            bar.update(task, completed=start + min(expected_s, time.monotonic() - began_s))
        bar.update(task, completed=start + expected_s)

    thread = threading.Thread(target=move, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def keep(promise: Promise, seconds: float) -> dict[str, Any]:
    """Runs one promise; returns its row."""
    began_s = time.monotonic()
    measured: dict[str, object] = {}
    broken = ""
    try:
        measured = promise.keep(seconds)
    except Exception as error:
        # Whatever it is, the other promises are to be heard as well.
        broken = f"{type(error).__name__}: {error}"
    return {
        "promise": promise.number,
        "what": promise.text,
        "kept": not broken,
        "seconds": round(time.monotonic() - began_s, 1),
        "measured": measured,
        "broken": broken,
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as a page."""
    about = (
        f"{report['minutes']:.0f} minutes on {report['cpus']} CPUs ({report['cpu']}), Python "
        f"{report['python']}. Every promise of docs/behaviour.md in its long form."
    )
    lines = [
        f"# Soak of corral {report['version']}, {report['date']}",
        "",
        about,
        "",
        "| | what | kept | s | measured |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in report["promises"]:
        found = "; ".join(f"{name}: {value}" for name, value in row["measured"].items())
        text = (found or row["broken"]).replace("|", "\\|").replace("\n", " ")
        kept = "yes" if row["kept"] else "**no**"
        lines.append(
            f"| {row['promise']} | {row['what']} | {kept} | {row['seconds']:.0f} | {text} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Entry; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long in all, or longer")
    parser.add_argument("--only", nargs="*", default=[], metavar="R1", help="these promises only")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    options = parser.parse_args()
    promises = in_order([p for p in PROMISES if not options.only or p.number in options.only])
    began_s = time.monotonic()
    rows = []
    columns = (
        TextColumn("{task.description:40.40}"), BarColumn(), TaskProgressColumn(),
        TimeElapsedColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=sum(p.share for p in promises) * options.seconds)
        for promise in promises:
            seconds = seconds_for(promise, options.seconds, time.monotonic() - began_s)
            bar.update(task, description=f"{promise.number} {promise.text}")
            with _moving(bar, task, seconds):
                row = keep(promise, seconds)
            rows.append(row)
            mark = "[green]kept  [/]" if row["kept"] else "[bold red]BROKEN[/]"
            bar.console.print(f"{mark} {promise.number:4} {promise.text}")
            if row["broken"]:
                bar.console.print(f"       {row['broken'][:400]}", markup=False)
    machine = topology.read_machine()
    report = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "version": __version__,
        "python": platform.python_version(),
        "cpu": machine.model_name,
        "cpus": len(machine.allowed_cpus),
        "minutes": (time.monotonic() - began_s) / 60,
        "promises": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"soak-{report['date']}"
    stem.with_suffix(".json").write_text(json.dumps(report, indent=1, default=str) + "\n")
    stem.with_suffix(".md").write_text(markdown(report))
    console.print(f"written: {stem}.md and .json")
    return 0 if all(row["kept"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
