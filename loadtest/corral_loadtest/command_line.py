"""The words of every load test's command line: what is no option, number, text or file of it is
refused in one line, before anything is started.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import math
import os
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from corral_client.addresses import parse_address
from corral_client.one_line_parser import OneLineParser
from corral_loadtest.specification import WrongInput

#: a bound beyond it is there for the sums alone, and nobody needs to read it
_READABLE = 1e9
_SHOWN_CHARACTERS = 60
#: of a file that is read as a whole
_MOST_BYTES = 256 * 2**20


class Parser(OneLineParser):
    """Tells the nearest option that there is, too."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but the first word that is left over is told with the nearest there is."""
        found, surplus = self.parse_known_args(args, namespace)
        if surplus:
            name = surplus[0].partition("=")[0]
            known = re.findall(r"--[a-z][a-z0-9-]*", self.format_usage())
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
            meant = f" (did you mean {close[0]}?)" if close else ""
            self.error(f"no such option or argument: {shown(name)}{meant}")
        return found


def shown(text: str) -> str:
    """What somebody wrote, as a part of one line."""
    plain = text if text and text.isprintable() and len(text.split()) == 1 else repr(text)
    return plain if len(plain) <= _SHOWN_CHARACTERS else f"{plain[:_SHOWN_CHARACTERS]}…"


def number(kind: Any, unit: str = "") -> Callable[[str], Any]:
    """Reads a number of a type with a range, as ``specification`` has them.

    Args:
        kind: ``Annotated[int, Meta(ge=1, le=9)]``, or of float.
        unit: what it counts, for people.
    """
    plain, *metas = typing.get_args(kind)
    bounds = next(meta for meta in metas if isinstance(meta, msgspec.Meta))

    def read(text: str) -> Any:
        found: float | None = None
        with contextlib.suppress(ValueError):
            found = plain(text)
        if found is None or not _within(bounds, found):
            wanted = _needed(plain, bounds, unit, found)
            raise argparse.ArgumentTypeError(f"{wanted} is needed, not {shown(text)}")
        return found

    return read


def _within(bounds: msgspec.Meta, value: float) -> bool:
    # No comparison with nan is true.
    above = value > bounds.gt if bounds.gt is not None else value >= _end(bounds.ge)
    return above and value <= _end(bounds.le)


def _end(bound: float | None) -> float:
    assert bound is not None, "every number has both ends"
    return bound


def _needed(plain: type, bounds: msgspec.Meta, unit: str, found: float | None) -> str:
    kind = "a whole number" if plain is int else "a number"
    if found is not None and not math.isfinite(found):
        kind = "a finite number"
    if unit:
        kind += f" of {unit}"
    least, most = bounds.ge if bounds.gt is None else bounds.gt, _end(bounds.le)
    if most > _READABLE and not (found is not None and most < found < math.inf):
        above = f"more than {least:g}" if bounds.gt is not None else f"{least:g} or more"
        return f"{kind}, {above},"
    above = f"more than {least:g}, at most" if bounds.gt is not None else f"{least:g} to"
    return f"{kind}, {above} {int(most) if most == int(most) else most},"


def text(given: str) -> str:
    """A text that the protocol can carry: UTF-8."""
    try:
        given.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{given!r} is not UTF-8") from None
    return given


def address(given: str) -> str:
    """HOST:PORT, or another address as gRPC takes it."""
    try:
        return parse_address(text(given)).target
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def read_file(path: str | Path) -> bytes:
    """A file that an option names.

    Raises:
        OSError: it cannot be read, or has no end, as a device.
    """
    with Path(path).open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {_MOST_BYTES >> 20} MiB", str(path))
    return content


def check_file(path: Path | None, option: str) -> None:
    """Makes sure that a file can be written, before anything is measured for it.

    Args:
        path: None for one that was not asked for.
        option: that names it.

    Raises:
        WrongInput: it cannot.
    """
    if path is None:
        return
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "Is a directory")
        if not path.parent.is_dir():
            raise WrongInput(
                f"{option} {path}: there is no folder {path.parent} to write {path.name} into"
            )
        if path.exists() and not path.is_file():
            # A pipe is not opened twice: who reads it would see an end.
            if not os.access(path, os.W_OK):
                raise PermissionError(0, "Permission denied")
            return
        there = path.exists()
        with path.open("ab"):
            pass
        if not there:
            path.unlink()
    except OSError as error:
        raise _refused(option, path, error) from None


def check_folder(folder: Path | None, option: str) -> None:
    """Makes a folder, and sure that files can be written there; see ``check_file``."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(option, folder, error) from None
    check_file(folder / f".corral-{os.getpid()}", option)


def _refused(option: str, path: Path, error: OSError) -> WrongInput:
    """The kernel's word begins small, but for a name's, as the server's ``os_reason`` has it."""
    reason = error.strerror or str(error)
    if reason[1:2].islower():
        reason = reason[:1].lower() + reason[1:]
    return WrongInput(f"{option} {path}: {reason}")
