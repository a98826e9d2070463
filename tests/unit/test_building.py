"""The building is as ARCHITECTURE.md says: how many files a room has, who imports whom, names.

`python tests/unit/test_building.py` prints the figures, `--all` what stands behind them; `make
check` runs them as tests.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORRAL = ROOT / "server" / "corral"
LOADTEST = ROOT / "loadtest" / "corral_loadtest"
ENGINES = re.compile(r"openvino|onnxruntime|\bipex\b|inductor|intel_extension|torchao|nncf", re.I)
#: where an engine may be named: its own room, the ladder's rungs, and the choices of --backend
ENGINE_ROOMS = ("backends", "lab")
CHOICES = "BackendName"
#: words of the old building, see docs/contributing: what each is called now
OLD_WORDS = (
    r"ingress|forge|workshop|nursery|generation|custody|identity|surroundings|allowance|doorkeeper"
    r"|receiving|arrivals|tally|hangs|proven|choice|guard|makers|optimize|own|exposition|prepared"
    r"|protocol_pages|heap|sealed|descendants|watched|hardening|bare|obituary|last_words|mourn"
    r"|costs|relieved|doubts|trials"
)


def sources(*folders: Path) -> Iterator[tuple[Path, ast.Module]]:
    """All Python files but the generated ones, parsed."""
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            if not file.name.endswith("_pb2.py"):
                yield file, ast.parse(file.read_text())


PRODUCT = (CORRAL, LOADTEST, ROOT / "client", ROOT / "protos")


def flat_files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("*.py"))


def _package(module: str, root: str) -> str | None:
    parts = module.split(".")
    if parts[0] != root or len(parts) < 2:
        return None
    return parts[1]


def imports_between_rooms(folder: Path) -> dict[str, set[str]]:
    """By room (a package or a flat module), which others it imports; TYPE_CHECKING counts."""
    root = folder.name
    found: dict[str, set[str]] = defaultdict(set)
    for file, tree in sources(folder):
        here = file.relative_to(folder).parts[0].removesuffix(".py")
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
                if node.module == root:
                    names = [f"{root}.{alias.name}" for alias in node.names]
            for name in names:
                there = _package(name, root)
                if there and there != here:
                    found[here].add(there)
    return found


def mutual_pairs(folder: Path) -> list[tuple[str, str]]:
    imports = imports_between_rooms(folder)
    return sorted(
        (a, b) for a in imports for b in imports[a] if a < b and a in imports.get(b, set())
    )


def long_files(limit: int = 350) -> list[str]:
    return [
        f"{file.relative_to(ROOT)}: {lines}"
        for file, _ in sources(*PRODUCT)
        if (lines := len(file.read_text().splitlines())) > limit
    ]


def long_functions(limit: int = 60) -> list[str]:
    return [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}: {length}"
        for file, tree in sources(*PRODUCT)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > limit
    ]


def engine_mentions() -> list[str]:
    """Names of engines in code (docstrings and comments aside) outside the engines' rooms."""
    found = []
    for file, tree in sources(CORRAL):
        room = file.relative_to(CORRAL).parts[0]
        if room in ENGINE_ROOMS:
            continue
        documents = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        choices = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and node.name == CHOICES
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            word = ""
            if id(node) in choices:
                continue
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                word = "" if id(node) in documents else node.value
            elif isinstance(node, ast.Attribute):
                word = node.attr
            elif isinstance(node, ast.Name):
                word = node.id
            if word and ENGINES.search(word):
                line = getattr(node, "lineno", 0)
                found.append(f"{file.relative_to(ROOT)}:{line} {word[:60]}")
    return found


def _public(name: str) -> bool:
    return not name.startswith("_")


def missing_docstrings() -> list[str]:
    """Public modules, classes, functions and methods without a docstring."""
    found = []
    for file, tree in sources(*PRODUCT):
        if not ast.get_docstring(tree):
            found.append(f"{file.relative_to(ROOT)}:1 module")
        stack: list[tuple[ast.Module | ast.ClassDef, bool]] = [(tree, True)]
        while stack:
            node, public = stack.pop()
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    seen = public and _public(child.name)
                    if seen and not ast.get_docstring(child) and not _overload(child):
                        found.append(f"{file.relative_to(ROOT)}:{child.lineno} {child.name}")
                    if isinstance(child, ast.ClassDef):
                        stack.append((child, seen))
    return found


def _overload(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(
        isinstance(item, ast.Name) and item.id in {"overload", "override"}
        for item in node.decorator_list
    )


def broad_excepts() -> list[str]:
    """``except Exception`` and the like without a comment on its line or the next."""
    found = []
    for file, tree in sources(*PRODUCT):
        lines = file.read_text().splitlines()
        for node in ast.walk(tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = ast.unparse(node.type) if node.type else ""
            if node.type is None or re.search(r"\b(Base)?Exception\b", caught):
                near = lines[node.lineno - 2 : node.lineno + 1]
                if not any("#" in re.sub(r"# noqa: \S+$", "", line) for line in near):
                    found.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    return found


def _in_locale(node: ast.Call) -> bool:
    """Whether a call reads or writes text in the encoding of whatever locale there is."""
    called = node.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    if any(keyword.arg in {"encoding", None} for keyword in node.keywords):
        return False
    if name in {"read_text", "write_text"}:
        return len(node.args) < (1 if name == "read_text" else 2)
    texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    owner = ast.unparse(called.value) if isinstance(called, ast.Attribute) else ""
    if name != "open" or owner in {"os", "Image", "self", "direct"}:
        return False
    return not any("b" in mode for mode in texts)


def locale_texts() -> list[str]:
    """Text files that are read or written in the locale's encoding, which may be any."""
    return [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file, tree in sources(*PRODUCT)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _in_locale(node)
    ]


def old_words() -> list[str]:
    """Old words in names of modules and classes."""
    pattern = re.compile(rf"(?<![a-z])({OLD_WORDS})(?![a-z])(?!_file)")
    found = []
    for file, tree in sources(CORRAL):
        if pattern.search(file.stem):
            found.append(str(file.relative_to(ROOT)))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                snake = re.sub(r"(?<!^)(?=[A-Z])", "_", node.name).lower()
                if pattern.search(snake):
                    found.append(f"{file.relative_to(ROOT)}:{node.lineno} class {node.name}")
    return found


def contract(name: str) -> dict[str, object]:
    with (ROOT / "pyproject.toml").open("rb") as stream:
        contracts = tomllib.load(stream)["tool"]["importlinter"]["contracts"]
    return next(found for found in contracts if found["id"] == name)


@pytest.mark.parametrize("folder", [CORRAL, LOADTEST], ids=["corral", "corral_loadtest"])
def test_a_stranger_sees_few_files_at_once(folder: Path) -> None:
    assert len(flat_files(folder)) <= 8, flat_files(folder)


@pytest.mark.parametrize("folder", [CORRAL, LOADTEST], ids=["corral", "corral_loadtest"])
def test_no_two_rooms_import_each_other(folder: Path) -> None:
    assert not mutual_pairs(folder)


def test_the_layers_are_few_and_type_checking_counts() -> None:
    layers = contract("layers")["layers"]
    assert isinstance(layers, list)
    assert len(layers) <= 12
    with (ROOT / "pyproject.toml").open("rb") as stream:
        assert not tomllib.load(stream)["tool"]["importlinter"].get("exclude_type_checking_imports")


def test_files_and_functions_are_short() -> None:
    assert not long_files()
    assert not long_functions()


def test_engines_are_named_in_their_rooms() -> None:
    assert len(engine_mentions()) <= 10, "\n".join(engine_mentions())


def test_everything_public_says_what_it_is() -> None:
    assert not missing_docstrings()


def test_broad_excepts_say_why() -> None:
    assert not broad_excepts()


def test_texts_are_utf_8_in_every_locale() -> None:
    assert not locale_texts()


def test_old_words_are_gone() -> None:
    assert not old_words()


def main() -> None:
    """Prints every figure, and what stands behind it with --all."""
    figures = {
        "flat files of corral": flat_files(CORRAL),
        "flat files of corral_loadtest": flat_files(LOADTEST),
        "pairs of rooms that import each other": mutual_pairs(CORRAL) + mutual_pairs(LOADTEST),
        "rows of the layers contract": list(contract("layers")["layers"]),  # type: ignore[call-overload]
        "files above 350 lines": long_files(),
        "functions above 60 lines": long_functions(),
        "mentions of engines outside backends/ and lab/": engine_mentions(),
        "public things without docstring": missing_docstrings(),
        "broad excepts without a reason": broad_excepts(),
        "texts in the locale's encoding": locale_texts(),
        "old words in names": old_words(),
    }
    for what, found in figures.items():
        print(f"{len(found):4}  {what}")
        if "--all" in sys.argv:
            for item in found:
                print(f"        {item}")


if __name__ == "__main__":
    main()
