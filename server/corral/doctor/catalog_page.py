"""Writes the table of checks into docs/doctor.md: ``make doctor-page``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from corral.doctor.catalog import CHECKS
from corral.doctor.finding import Check

_BEGIN = "<!-- the checks: make doctor-page -->\n"
_END = "<!-- end of the checks -->\n"


def write_table(checks: Iterable[Check]) -> str:
    """The checks as a table of Markdown, between two comments."""
    rows = [
        f"| `{check.id}` | {check.title} | {check.wanted} | {check.source} |" for check in checks
    ]
    head = "| id | check | wanted | source |\n| --- | --- | --- | --- |\n"
    return "".join([_BEGIN, head, *(f"{row}\n" for row in rows), _END])


def main() -> None:
    """Replaces the table of the page that argv names."""
    page = Path(sys.argv[1])
    before, _, rest = page.read_text("utf-8").partition(_BEGIN)
    page.write_text(before + write_table(CHECKS) + rest.partition(_END)[2], "utf-8")


if __name__ == "__main__":
    main()
