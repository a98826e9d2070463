"""docs/doctor.md has every check, as the code has it."""

import re
from pathlib import Path

from corral.doctor.catalog import CHECKS
from corral.doctor.catalog_page import write_table

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "doctor.md"
#: what a page says of a check that has its advice from there
_SAID = {
    "other-load": "Others on the same CPUs",
    "idle-states": "sleep deeper",
    "isa": "VNNI",
    "allocator": "tcmalloc",
    "openmp": "libiomp5",
    "thread-affinity": "inside affinity",
    "open-files": "Descriptors",
}


def test_the_table_of_checks_is_the_catalog() -> None:
    assert write_table(CHECKS) in PAGE.read_text(), (
        "python -m corral.doctor.catalog_page docs/doctor.md"
    )


def test_a_page_that_is_a_checks_source_speaks_of_it() -> None:
    named = {one.id: re.search(r"corral: (\S+\.md)", one.source) for one in CHECKS}
    pages = {name: found[1] for name, found in named.items() if found}
    assert pages.keys() == _SAID.keys()
    for name, page in pages.items():
        assert _SAID[name] in " ".join((ROOT / page).read_text().split()), name
