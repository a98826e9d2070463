"""systemd's unit file of corral, read as systemd reads it, and its groups of system calls."""

from __future__ import annotations

import subprocess
from pathlib import Path

UNIT = Path(__file__).parents[2] / "deploy" / "corral.service"


def values(name: str) -> list[str]:
    """All values of a setting, in the file's order."""
    lines = UNIT.read_text().splitlines()
    return [line.split("=", 1)[1] for line in lines if line.startswith(f"{name}=")]


def group(name: str) -> set[str]:
    """The calls of a group, ``@system-service``, with those of the groups inside it."""
    shown = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
    )
    found = set()
    for line in shown.stdout.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            found |= group(word)
        elif word and not word.startswith("#"):
            found.add(word)
    return found


def allowed_calls() -> set[str]:
    """What SystemCallFilter= lets through: lists add, those that begin with ~ take away."""
    found: set[str] = set()
    for value in values("SystemCallFilter"):
        for word in value.removeprefix("~").split():
            calls = group(word) if word.startswith("@") else {word}
            found = found - calls if value.startswith("~") else found | calls
    return found
