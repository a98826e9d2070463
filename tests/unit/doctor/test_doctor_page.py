"""docs/doctor.md has every check, as the code has it."""

from pathlib import Path

from corral.doctor.catalog import CHECKS
from corral.doctor.catalog_page import write_table

PAGE = Path(__file__).parents[3] / "docs" / "doctor.md"


def test_the_table_of_checks_is_the_catalog() -> None:
    assert write_table(CHECKS) in PAGE.read_text(), (
        "python -m corral.doctor.catalog_page docs/doctor.md"
    )
