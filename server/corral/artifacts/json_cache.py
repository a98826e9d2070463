"""Results that took time to measure, one JSON file each, kept by what decides their content.

A file's name ends in 12 digits of the hash of its ingredients: everything that decides what is in
it, by name. An entry holds its format number, the ingredients in clear, and the content:

    {"format": 1, "ingredients": {"cpu": "...", "cores": "2"}, "content": {...}, "sha256": "..."}

An entry of another format is not there, and is written over. One that cannot be read is a warning,
and measured again. Nothing depends on corral's source files: a writer raises its format number
when what it measures, or how that is written, changes.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from corral.settings.files import read_file
from corral.system import folders
from corral.system.ingredients import ingredients_key
from corral.system.whole_file import write_whole

_log = logging.getLogger(__name__)

Content = TypeVar("Content", bound=msgspec.Struct)


class _Form(msgspec.Struct, frozen=True):
    """What every entry has, of whatever format."""

    format: int


class _Entry(msgspec.Struct, frozen=True):
    """An entry of the format that is asked for."""

    format: int
    ingredients: dict[str, str]
    content: msgspec.Raw
    #: of the content; empty in entries of before
    sha256: str = ""


class JsonCache(Generic[Content]):
    """Entries of one kind in one folder.

    Args:
        folder: made when the first entry is written.
        kind: what an entry holds. A ValueError of its ``__post_init__`` counts as damage.
        format_number: the writer's; an entry with another one is not used.
        title: one entry in a warning's words: "cost curve".
    """

    def __init__(
        self, folder: Path, kind: type[Content], *, format_number: int, title: str
    ) -> None:
        self._folder = folder
        self._kind = kind
        self._format = format_number
        self._title = title

    def file(self, name: str, ingredients: Mapping[str, str]) -> Path:
        """Where the entry of these ingredients lies: ``<name>-<12 digits of their key>.json``."""
        return self._folder / f"{name}-{ingredients_key(ingredients)[:12]}.json"

    def read(self, name: str, ingredients: Mapping[str, str]) -> Content | None:
        """The entry of these ingredients.

        None where there is none, or one of another format; None with a warning where it is
        damaged or holds other ingredients.
        """
        file = self.file(name, ingredients)
        try:
            data, _ = read_file(file, once=False)
            if msgspec.json.decode(data, type=_Form).format != self._format:
                return None
            entry = msgspec.json.decode(data, type=_Entry)
            content = self._content(entry)
            fault = "" if entry.ingredients == dict(ingredients) else "it is of something else"
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError, msgspec.DecodeError) as error:
            fault = str(error)
        if fault:
            _log.warning(
                "the cached %s %s is ignored, and measured again: %s", self._title, file, fault
            )
            return None
        return content

    def read_like(self, name: str, agrees: Callable[[Mapping[str, str]], bool]) -> Content | None:
        """The first entry of this name and format whose ingredients agree; None without one.

        Damaged entries are passed over.
        """
        for file in sorted(self._folder.glob(f"{glob.escape(name)}-*.json")):
            with contextlib.suppress(OSError, ValueError, RecursionError, msgspec.DecodeError):
                entry = msgspec.json.decode(read_file(file, once=False)[0], type=_Entry)
                if entry.format == self._format and agrees(entry.ingredients):
                    return self._content(entry)
        return None

    def _content(self, entry: _Entry) -> Content:
        """What an entry holds.

        Raises:
            ValueError: it is damaged.
        """
        content = msgspec.json.decode(entry.content, type=self._kind)
        if entry.sha256 not in {"", _sha256(msgspec.json.format(entry.content, indent=-1))}:
            raise ValueError("its content is not what was written")
        return content

    def write(self, name: str, ingredients: Mapping[str, str], content: Content) -> None:
        """Writes an entry, whole or not at all; a folder that refuses it is a warning."""
        file = self.file(name, ingredients)
        raw = msgspec.Raw(msgspec.json.encode(content))
        data = msgspec.json.encode(
            _Entry(self._format, dict(ingredients), raw, _sha256(bytes(raw)))
        )
        try:
            folders.make(self._folder)
            write_whole(file, msgspec.json.format(data, indent=2))
        except OSError as error:
            _log.warning("the %s is not cached: %s: %s", self._title, file, error.strerror)


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
