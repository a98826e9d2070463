"""The width of what is printed."""

import pytest

from corral.system.terminal import standard_output


def test_a_terminal_that_nobody_knows_the_width_of_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    assert standard_output().width == 80
    assert standard_output(140).width == 140
