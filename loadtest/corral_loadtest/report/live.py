"""The progress bar and the live line of a running measurement, on standard error."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from corral_loadtest.measure import running


class Live:
    """A context manager; its ``listener`` is told where the measurement stands.

    Args:
        console: where to draw; nothing moves if it is no terminal.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[line]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("connecting", total=None, line="")

    def __enter__(self) -> Live:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def listener(self, now: running.Progress) -> None:
        """Draws it."""
        self._progress.update(
            self._task,
            description=now.phase,
            completed=min(now.at_s, now.of_s) if now.of_s else now.at_s,
            total=now.of_s,
            line=line(now),
        )


def line(now: running.Progress) -> str:
    """The live line: rate, tail, what is in flight, errors."""
    parts = [f"{now.requests_per_s:,.0f}/s"]
    if now.p99_ms is not None:
        parts.append(f"p99 {now.p99_ms:,.1f} ms")
    parts.append(f"{now.in_flight} in flight")
    parts += [f"{status} {count:,}" for status, count in sorted(now.errors.items())]
    return "  ".join(parts)
