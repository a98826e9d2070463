"""Asks an engine what a model file takes and gives, in a process of its own.

This process imports no framework, and a file's header may leave open what an engine finds out: it
follows shapes through the graph, and runs it once where even that leaves a dimension open.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from corral.errors import ModelError, PassingError
from corral.models.files import below
from corral.models.onnx_header import Port

#: what is run; it says how the engines are asked
_MODULE = "corral.backends.describe_file"
_TIMEOUT_S = 600.0


class Question(msgspec.Struct, frozen=True):
    """What the process is asked.

    Attributes:
        path: the file.
        shapes: one item of what is known already, by name.
        datatypes: of inputs that the file says nothing of, by name.
        names: what the file's header calls its tensors; an engine may have other names besides.
    """

    path: str
    shapes: list[tuple[str, tuple[int, ...]]]
    datatypes: dict[str, str] = {}
    names: list[str] = []


class Reply(msgspec.Struct, frozen=True):
    """What it answers: inputs and outputs, or why there are none, in one line."""

    inputs: list[Port] = []
    outputs: list[Port] = []
    error: str = ""


#: what was asked and answered in this process, or in the one that started it
_answered: dict[str, Reply] = {}


def answered() -> dict[str, Reply]:
    """What another process need not ask again; see ``know``."""
    return dict(_answered)


def know(replies: Mapping[str, Reply]) -> None:
    """Takes over what another process asked: a file that has changed since is asked about anew."""
    _answered.update(replies)


def ask(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    datatypes: Mapping[str, str],
    names: Sequence[str] = (),
) -> tuple[list[Port], list[Port]]:
    """Inputs and outputs as an engine has them; remembered while the file stays as it is.

    Args:
        path: the file, or a folder.
        shapes: one item of what is known already, by name.
        datatypes: of inputs that the file says nothing of, by name.
        names: see Question.

    Raises:
        ModelError: no engine reads the file; one line that says why.
    """
    question = Question(str(path), sorted(shapes.items()), dict(datatypes), list(names))
    key = msgspec.json.encode([question, _stamp(path)]).decode()
    if key not in _answered:
        _answered[key] = _ask(question)
    reply = _answered[key]
    if reply.error:
        raise ModelError(f"--model {path}: {reply.error}")
    return list(reply.inputs), list(reply.outputs)


def _stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when the file does."""
    files = below(path) if path.is_dir() else [path]
    try:
        return tuple(
            (str(file), found.st_mtime_ns, found.st_size)
            for file in files
            if (found := file.stat()) and file.is_file()
        )
    except OSError as error:
        raise ModelError(f"--model {path}: {error.strerror}") from None


def _ask(question: Question) -> Reply:
    path = question.path
    try:
        done = subprocess.run(
            [sys.executable, "-m", _MODULE],
            input=msgspec.json.encode(question),
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        return msgspec.json.decode(done.stdout, type=Reply)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PassingError(f"--model {path}: it could not be looked into: {error}") from None
    except msgspec.DecodeError:
        raise PassingError(
            f"--model {path}: the engine died while it looked into it "
            f"({_last_line(done.stderr) or f'exit code {done.returncode}'})"
        ) from None


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:200] if lines else ""
