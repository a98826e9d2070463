"""docs/configuration.md says what the settings say."""

from pathlib import Path

from corral.cli.configuration_page import render
from corral.settings import options
from corral.settings.ranges import values

_PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_is_current() -> None:
    assert _PAGE.read_text() == render(), "make configuration writes it anew"


def test_every_option_has_its_row() -> None:
    rows = [line for line in render().splitlines() if line.startswith("| `--")]
    assert len(rows) == len(options())
    assert all(row.count(" | ") == 4 and "| |" not in row.replace("  ", " ") for row in rows)


def test_ranges_are_words() -> None:
    table = options()
    assert values(table["max_batch"]) == "1 to 256 items"
    assert values(table["cores_per_worker"]) == "1 to 8192 cores or node"
    assert values(table["grace_s"]) == "0 or more seconds"
    assert values(table["hang_floor_s"]) == "more than 0 seconds"
    assert values(table["mode"]) == "rti or throughput"
