"""Installs the clients, each apart: ``python -m support.interop.install [NAME ...]``.

What a registry lacks is said in a line and remembered, so that the client's tests are skipped with
that reason; the next call tries again.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from corral_loadtest.generator import perf_analyzer
from support.interop.clients import BY_NAME, CLIENTS, HOME, NODE, Foreign, Source

#: a registry that says nothing for so long is given up
_LONGEST_S = 600
_PIP = (
    "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
    "--no-compile", "--no-deps", "--timeout", "30", "--retries", "1",
)  # fmt: skip
_NPM = ("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=1",
        "--fetch-timeout=60000")  # fmt: skip


class Refused(Exception):
    """A client cannot be installed here; the text says why."""


def folder_of(client: Foreign, home: Path = HOME) -> Path:
    """Where its environment is."""
    return home / ("node" if client.source is Source.NPM else client.name)


def interpreter(client: Foreign, home: Path = HOME) -> Path:
    """What runs its script."""
    if client.javascript:
        return Path(shutil.which("node") or "node")
    if client.source is Source.PIP:
        return folder_of(client, home) / "bin" / "python"
    return Path(sys.executable)


def why_not(client: Foreign, home: Path = HOME) -> str:
    """Why its tests cannot run; empty where they can."""
    refused = _refusal(client, home)
    if refused.exists():
        return refused.read_text()
    if client.source in {Source.MACHINE, Source.LOCK, Source.PERF_ANALYZER}:
        return _missing_command(client)
    if not _is_current(client, home):
        return f"{client.title} is not installed: make interop does that"
    return ""


def install(client: Foreign, home: Path = HOME) -> None:
    """Makes its environment, unless it is there as pinned.

    Raises:
        Refused: the registry or the machine lacks something.
    """
    refused = _refusal(client, home)
    refused.unlink(missing_ok=True)
    try:
        _make(client, home)
    except Refused as reason:
        home.mkdir(parents=True, exist_ok=True)
        refused.write_text(f"{client.title}: {reason}")
        raise


def _make(client: Foreign, home: Path) -> None:
    if missing := _missing_command(client):
        raise Refused(missing)
    if client.source is Source.PERF_ANALYZER:
        try:
            perf_analyzer.install(HOME.parent / "perf_analyzer")
        except perf_analyzer.Missing as reason:
            raise Refused(str(reason)) from None
    if client.source in {Source.MACHINE, Source.LOCK, Source.PERF_ANALYZER}:
        return
    if _is_current(client, home):
        return
    folder = folder_of(client, home)
    print(f"installing {client.title} into {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    if client.source is Source.NPM:
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(NODE / name, folder / name)
        _run(_NPM, cwd=folder)
    else:
        _run((sys.executable, "-m", "venv", str(folder)))
        python = str(interpreter(client, home))
        _run((python, *_PIP, "--requirement", str(client.requirements)))
    (folder / "installed.sha256").write_text(_wanted(client))


def _run(command: Sequence[str], cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, check=False, timeout=_LONGEST_S
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"the registry was silent for {_LONGEST_S} s") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith(("error", "npm error"))]
        raise Refused((errors or lines or ["no reason given"])[0])


def _missing_command(client: Foreign) -> str:
    missing = [name for name in client.commands if shutil.which(name) is None]
    return f"the machine has no {' and no '.join(missing)}" if missing else ""


def _refusal(client: Foreign, home: Path) -> Path:
    return home / f"{client.name}.refused"


def _wanted(client: Foreign) -> str:
    pins = NODE / "package-lock.json" if client.source is Source.NPM else client.requirements
    return hashlib.sha256(pins.read_bytes()).hexdigest()


def _is_current(client: Foreign, home: Path) -> bool:
    stamp = folder_of(client, home) / "installed.sha256"
    return stamp.exists() and stamp.read_text() == _wanted(client)


def main(names: Sequence[str]) -> int:
    """Installs them and says what cannot be had; 2 for a name that there is not."""
    if unknown := [name for name in names if name not in BY_NAME]:
        print(f"no such client: {unknown[0]}; there are {', '.join(BY_NAME)}", file=sys.stderr)
        return 2
    for client in [BY_NAME[name] for name in names] or CLIENTS:
        try:
            install(client)
        except Refused as reason:
            print(f"{client.title} cannot be had here, its tests are skipped: {reason}",
                  file=sys.stderr)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
