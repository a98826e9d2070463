"""docs/coming-from.md names options, commands and metrics that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from corral.cli.options import ADMIN_COMMANDS
from corral.settings import options

DOCS = Path(__file__).parents[2] / "docs"
SECTIONS = dict(
    re.findall(
        r"^## (From [^\n]+)\n(.*?)(?=^## |\Z)", (DOCS / "coming-from.md").read_text(), re.M | re.S
    )
)


def _ours(section: str) -> list[str]:
    """The middle cells of a section's table."""
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [row[1] for row in rows[2:]]


def test_all_four_are_there() -> None:
    names = ["TorchServe", "Triton Inference Server", "MLServer", "OpenVINO Model Server"]
    assert list(SECTIONS) == [f"From {name}" for name in names]


@pytest.mark.parametrize("title", SECTIONS)
def test_each_option_named_is_one_of_corrals(title: str) -> None:
    known = {f"--{option.name}" for option in options().values()} | {"--config"}
    cells = _ours(SECTIONS[title])
    assert len(cells) >= 10
    named = {word for cell in cells for word in re.findall(r"`(--[a-z0-9-]+)", cell)}
    assert len(named) >= 6
    assert named <= known, named - known


def test_each_command_and_metric_named_is_there() -> None:
    text = " ".join(cell for section in SECTIONS.values() for cell in _ours(section))
    commands = set(re.findall(r"`corral ([a-z]+)", text))
    assert {"reload", "tune"} <= commands <= {*ADMIN_COMMANDS, "tune", "prepare", "plan", "serve"}
    metrics = (DOCS / "metrics.md").read_text()
    for name in re.findall(r"`(corral_[a-z_]+)`", text):
        assert f"`{name}" in metrics


def test_every_setting_that_others_have_is_answered() -> None:
    """No cell is empty: what has no counterpart says so."""
    for section in SECTIONS.values():
        assert all(cell.strip() for cell in _ours(section))
