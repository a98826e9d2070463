"""A CSV of pictures and their labels: file,label, files relative to the CSV's folder."""

from __future__ import annotations

import csv
import errno
import re
from collections.abc import Sequence
from pathlib import Path

from corral.errors import ConfigError

#: what the columns of a CSV are called, without blanks and such
_FILE_HEADS = frozenset(
    {"file", "path", "filename", "filepath", "image", "imagepath", "imagefile", "picture", "img"}
)
_LABEL_HEADS = frozenset({"label", "labels", "class", "classname", "classid", "category", "target"})
#: letters of a file's name that a message repeats
_SHOWN = 200


def read(path: Path, option: str) -> list[tuple[Path, str]]:
    """Each row's file and label; a head, blank rows and a byte order mark are left out.

    Semicolons or tabs may stand for commas, as spreadsheets write them where the comma is a
    decimal sign.

    Raises:
        ConfigError: it is no such file, holds none, or a file is not there; one line.
        OSError: it cannot be read.
    """
    rows = _rows(path, option)
    if rows and _is_head(path.parent, rows[0][1]):
        rows = rows[1:]
    if not rows:
        raise ConfigError(f"{option}: no pictures in it; each line is file,label")
    found = []
    for line, row in rows:
        if len(row) != 2:
            raise ConfigError(f"{option}: line {line} is no file,label")
        file = _picture(path.parent, row[0])
        if file is None:
            raise ConfigError(f"{option}: line {line}: no such file {row[0][:_SHOWN]!r}")
        found.append((file, row[1]))
    return found


def _rows(path: Path, option: str) -> list[tuple[int, list[str]]]:
    """The rows that are not blank, and the lines that they end on."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            delimiter = next((one for one in ",;\t" if one in first), ",")
            reader = csv.reader(stream, strict=True, delimiter=delimiter)
            return [(reader.line_num, row) for row in reader if "".join(row).strip()]
    except (UnicodeDecodeError, csv.Error):
        raise ConfigError(f"{option}: neither a folder nor a CSV of file,label") from None


def _is_head(folder: Path, row: Sequence[str]) -> bool:
    """Whether the first row names the columns."""
    if len(row) != 2 or _picture(folder, row[0]) is not None:
        return False
    file, label = (re.sub(r"[\s_-]+", "", cell).lower() for cell in row)
    return file in _FILE_HEADS or label in _LABEL_HEADS


def _picture(folder: Path, name: str) -> Path | None:
    """The file that a row names; blanks around a name count where there is a file with them."""
    return next((file for one in (name, name.strip()) if _is_file(file := folder / one)), None)


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise
