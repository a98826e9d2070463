"""A search as a table for people."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from corral.accuracy import describe
from corral.settings import Settings
from corral.tuning.candidates import Row, Search


def render(search: Search, settings: Settings) -> Group:
    """Every candidate with its speed and its distance from FP32, and who won.

    Args:
        search: the outcome.
        settings: of the server that it was made for.
    """
    table = Table(
        title=f"corral tune: {settings.model.name}, {settings.model.mode}",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("candidate")
    for heading in ("p50, batch 1", "images/s", "batch"):
        table.add_column(heading, justify="right")
    table.add_column("against FP32")
    for row in search.rows:
        table.add_row(*_cells(row))
    return Group(table, Text(f"{search.sentence()}  (measured in {search.took_s:.0f} s)"))


def _cells(row: Row) -> list[str]:
    measured = row.images_per_s > 0
    against = "is FP32" if row.fidelity is None else describe(row.fidelity)
    return [
        row.candidate.name,
        f"{row.p50_ms:.1f} ms" if measured else "-",
        f"{row.images_per_s:.1f}" if measured else "-",
        str(row.batch) if measured else "-",
        row.excluded or "; ".join(filter(None, (against, row.remark))),
    ]
