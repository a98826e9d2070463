"""docs/interop.md tells of every client of ``make interop``, with its version and what differs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.interop.clients import CLIENTS, ROOT, Foreign, Source
from support.interop.install import Refused, install, why_not

PAGE = (ROOT / "docs" / "interop.md").read_text()


def row(client: Foreign) -> list[str]:
    found = re.search(rf"(?m)^\| {re.escape(client.title)} \|(.*)\|$", PAGE)
    assert found, client.title
    return [cell.strip() for cell in found[1].split("|")]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_has_its_row_with_its_version(client: Foreign) -> None:
    version, _, works, differs = row(client)
    assert version == (", ".join(client.versions().values()) or "as installed")
    assert works.startswith("all")
    assert bool(differs) == any(case.startswith("differs_") for case in client.cases())


def test_what_differs_is_explained_and_nothing_else() -> None:
    cases = {case for client in CLIENTS for case in client.cases() if case.startswith("differs_")}
    assert set(re.findall(r"`(differs_\w+)`", PAGE)) == cases
    assert len(cases) >= 8


def test_every_client_has_cases_and_pins_everything() -> None:
    for client in CLIENTS:
        assert len(client.cases()) >= 2, client.name
        if client.source is Source.PIP:
            lines = client.requirements.read_text().splitlines()
            assert all(re.match(r"#|[\w.-]+==\S+( --hash=\S+)?$", line) for line in lines)


def test_a_client_that_cannot_be_had_is_skipped_with_the_reason(
    tmp_path: Path,
) -> None:
    lost = Foreign(name="lost", title="Lost", source=Source.NPM, commands=("no-such-command",))
    assert why_not(lost, tmp_path) == "Lost is not installed: make interop does that"
    with pytest.raises(Refused, match="the machine has no no-such-command"):
        install(lost, tmp_path)
    assert why_not(lost, tmp_path) == "Lost: the machine has no no-such-command"
