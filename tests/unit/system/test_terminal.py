"""What is printed: how wide, names as they are, and a bar."""

import io

import pytest
from rich.table import Table

from corral.system import progress_bar, terminal
from corral.system.terminal import standard_output


def test_a_terminal_that_nobody_knows_the_width_of_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    assert standard_output().width == 80
    assert standard_output(140).width == 140


@pytest.mark.parametrize("name", ["[bold]x[/nope]", "[red]", ":cat:", "a{b}c", "[/]"])
def test_names_are_printed_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    table = Table("label", title=f"worst of {name}")
    table.add_row(name)
    standard_output(80).print(table)
    assert capsys.readouterr().out.count(name) == 2
    written = io.StringIO()
    said = terminal._Stream(
        file=written, force_terminal=True, color_system=None, width=200, markup=False
    )
    monkeypatch.setattr(progress_bar, "standard_error", lambda: said)
    with progress_bar.progress_bar(f"preparing {name}") as shown:
        assert shown is not None
        shown("evaluate", 0.5)
    assert f"preparing {name} evaluate" in written.getvalue()
