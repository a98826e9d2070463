"""A bar on standard error that shows how far something long has come."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from corral.system.terminal import standard_error


@contextlib.contextmanager
def progress_bar(doing: str) -> Iterator[Callable[[str, float], None] | None]:
    """Shows it until the end: what is called with a phase and the share of the whole, 0 to 1.

    None where standard error is no terminal, in which a bar could move.

    Args:
        doing: of what it is, "preparing NAME"; a path may have signs that rich would read.
    """
    console = standard_error()
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.fields[doing]}", markup=False),
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0, doing=doing)
        yield lambda phase, share: bar.update(task, description=phase, completed=share)
