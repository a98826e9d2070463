"""What the pages say of the repository: links, paths, commands, the picture of the rooms."""

from __future__ import annotations

import argparse
import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.cli.options import make_parser

ROOT = Path(__file__).parents[2]
_SKIPPED = {".venv", ".venv-ipex", ".cache", ".git", "node_modules"}
PAGES = sorted(
    page for page in ROOT.rglob("*.md") if not _SKIPPED.intersection(page.relative_to(ROOT).parts)
)
#: what dated pages name as it was then
_DATED = {page for page in PAGES if page.parent.name in {"benchmarks", "notes"}}
#: has what people typed, right or wrong
_REPORTS = ROOT / "docs" / "field-reports.md"
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(
    r"`([A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)+\.(?:py|md|json|toml|sh|txt|lock|proto|yml))`"
)
#: folders that a path in a page may be relative to
_FROM = ("", "server/corral", "server", "loadtest", "loadtest/corral_loadtest", "tests/process")


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _anchor(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {_anchor(re.sub(r"[`*]", "", heading)) for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Relative links that lead nowhere, fragments included."""
    broken = []
    for link in _LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, fragment = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (fragment and fragment not in _anchors(file)):
            broken.append(link)
    return broken


def missing_paths(page: Path) -> list[str]:
    """Files named in backticks that are nowhere."""
    starts = [page.parent, *(ROOT / start for start in _FROM)]
    return [
        path
        for path in _CODE.findall(page.read_text())
        if not any((start / path).exists() for start in starts)
    ]


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert not broken_links(page)


@pytest.mark.parametrize("page", [p for p in PAGES if p not in _DATED], ids=_name)
def test_every_file_named_is_there(page: Path) -> None:
    assert not missing_paths(page)


def test_a_dead_link_a_dead_anchor_and_a_lost_file_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One\n[a](gone.md) [b](#two) [c](#one) [d](page.md#one) `corral/gone.py`\n")
    assert broken_links(page) == ["gone.md", "#two"]
    assert missing_paths(page) == ["corral/gone.py"]


def _symbols(file: Path) -> set[str]:
    """Functions, classes and methods of a module: ``f``, ``C``, ``C.m`` and ``m``."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                    found |= {part.name, f"{node.name}.{part.name}"}
    return found


def test_architecture_names_functions_that_their_files_have() -> None:
    rows = re.findall(r"`([\w.]+)`[^`|]*?(?:, which calls `(\w+)`,)? in \[[^]]+\]\(([^)]+\.py)\)",
                      (ROOT / "ARCHITECTURE.md").read_text())  # fmt: skip
    assert len(rows) >= 12
    for first, second, file in rows:
        missing = {first, second} - {""} - _symbols(ROOT / file)
        assert not missing, f"{file} has no {missing}"


def test_the_picture_of_the_rooms_is_the_layers_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(c["layers"] for c in contracts["contracts"] if c["id"] == "layers")
    order = {room: row for row, line in enumerate(layers) for room in line.split(" | ")}
    text = (ROOT / "ARCHITECTURE.md").read_text()
    picture = text[text.index("    __main__\n") : text.index("\n\nNo room imports")]
    drawn = re.findall(r"(?m)(?:^ {4}|│ )(\w+)", picture)
    assert sorted(drawn) == sorted(order)
    assert [order[room] for room in drawn] == sorted(order[room] for room in drawn)


def test_the_commands_of_the_readme_are_commands() -> None:
    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "quickstart.md").read_text()
    commands = set(re.findall(r"(?m)^    ([a-z]+)  ", make_parser().format_help()))
    named = set(re.findall(r"(?:`|\.venv/bin/)corral ([a-z]+)", text))
    assert named
    assert named <= commands
    targets = set(re.findall(r"(?m)^([a-z0-9-]+):", (ROOT / "Makefile").read_text()))
    assert set(re.findall(r"`?make ([a-z]+)", text)) <= targets


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, set[str]]]:
    """Each command, and those below it, with its options."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield name, {word for one in command._actions for word in one.option_strings}
                yield from _commands(command)


def test_every_option_of_a_command_is_told_somewhere() -> None:
    told = set(re.findall(r"--[a-z][a-z0-9-]*", "".join(page.read_text() for page in PAGES)))
    for name, options in _commands(make_parser()):
        missing = {option for option in options if option.startswith("--")} - told - {"--help"}
        assert not missing, f"no page tells of {missing} of corral {name}"


@pytest.mark.parametrize("page", [p for p in PAGES if p not in _DATED | {_REPORTS}], ids=_name)
def test_commands_have_the_options_that_a_page_gives_them(page: Path) -> None:
    commands = dict(_commands(make_parser()))
    for name, line in re.findall(r"(?<![-\w])corral ([a-z]+)((?: [^ `\n]+)*)", page.read_text()):
        given = {word for word in re.findall(r" (--[a-z][a-z0-9-]*)", line) if name in commands}
        assert given <= commands.get(name, set()), f"corral {name}{line}"
