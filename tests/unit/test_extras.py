"""corral is on no package index: what it tells people to install comes from where it came from."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from pathlib import Path

import pytest

from corral import extras

ROOT = Path(__file__).parents[2]


def test_the_checkout_is_named_with_its_constraints() -> None:
    found = extras.install("torch", "trace", python="/usr/bin/python3")
    lock = ROOT / "requirements.lock"
    assert found == f"/usr/bin/python3 -m pip install --constraint {lock} '{ROOT}[torch,trace]'"


class _Installed:
    def __init__(self, url: str | None) -> None:
        self._url = url

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self._url is None else f'{{"url": "{self._url}", "dir_info": {{}}}}'


def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str | None) -> None:
    """As a wheel: its modules are in site-packages, the checkout is what pip noted."""
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "lib" / "corral" / "extras.py"))
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: _Installed(url))


def test_of_an_installed_corral_it_is_where_pip_had_it_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "my corral"
    home.mkdir()
    (home / "requirements.lock").touch()
    _elsewhere(monkeypatch, tmp_path, f"file://{tmp_path}/my%20corral")
    assert extras.checkout() == home


@pytest.mark.parametrize("url", [None, "https://example.org/corral.whl", "file:///src"])
def test_where_that_is_gone_it_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str | None
) -> None:
    _elsewhere(monkeypatch, tmp_path, url)
    assert extras.install("torch") == "pip install '.[torch]' in corral's checkout"


def test_nothing_sends_people_to_an_index_for_corral() -> None:
    """Somebody else may have that name there."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    found = []
    for name in listed:
        if name.endswith((".py", ".md", ".toml", ".yaml", ".service")) or "Containerfile" in name:
            text = (ROOT / name).read_text("utf-8", "replace")
            if re.search(r"pip install[^\n]*?( |'|\")corral(\[|['\"]( |$)| |$)", text, re.M):
                found.append(name)
    assert set(found) <= {"tests/unit/test_extras.py"}
