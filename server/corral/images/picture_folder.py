"""A user's own pictures on disk: a folder for each class, a CSV of files and labels, or a heap.

    DIR/tiger cat/1.jpg     the folder's name is a class's label, in any case, or its number
    pictures.csv            file,label; files are relative to the CSV's folder; a head line may lead
    DIR/1.jpg               pictures without labels, at any depth

Fewer pictures beside the folders of classes than in them are strays, and left out, as by other
programs that read such folders. Links to folders are followed, and folders whose names begin with
a dot left out.

Folders named by WordNet's numbers, one a class, are the classes in their order, as ImageNet's 1,000
are; where the model's labels begin with such numbers, they are the classes of these.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corral.errors import ConfigError, InvalidRequest, PictureError
from corral.images import picture_csv
from corral.images.decode import decode
from corral.models.files import entries
from corral.models.spec import Recipe

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
#: of a class's number; Python refuses to read thousands of them
_MOST_DIGITS = 100
#: letters of a label that a message repeats
_SHOWN = 100
#: endings that a message names
_MOST_ENDINGS = 5
_WORDNET = re.compile(r"n\d{8}(?!\d)")
#: of each end of a large file; a thousand photographs take a second or less to tell apart
_END_BYTES = 128 * 2**10
#: a user's own files are trusted with more than a client's
_MAX_PIXELS = 500_000_000


@dataclasses.dataclass(frozen=True)
class PictureFolder:
    """Pictures, and their classes where they are known.

    Attributes:
        option: what named them, "--evaluation DIR", for errors.
        files: sorted by path; as a CSV lists them.
        labels: a class's number each; None where they are not known.
        left_out: how many files of a folder are none of these, by their endings in small letters,
            the most frequent first; "" is none.
        strays: how many pictures beside the folders of classes are left out.
        unlabelled: why pictures in folders have no labels; empty where they have, or lie in none.
    """

    option: str
    files: tuple[Path, ...]
    labels: tuple[int, ...] | None
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    strays: int = 0
    unlabelled: str = ""

    def __len__(self) -> int:
        return len(self.files)

    def digest(self) -> str:
        """SHA-256, in hex, of the pictures' content and labels, in their order.

        Neither names nor times count: pictures that were copied or moved are the same, and others
        of the same name, size and time are not. Of large files beginning and end are read.

        Raises:
            PictureError: a picture cannot be read; one line that names the file.
        """
        whole = hashlib.sha256()
        for index, file in enumerate(self.files):
            label = "" if self.labels is None else self.labels[index]
            try:
                stat = file.stat()
                state = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
                sample = _sample(file.absolute(), state)
            except OSError as error:
                raise PictureError(f"{self.option}: {file}: {error.strerror}") from None
            whole.update(sample + f"\0{stat.st_size}\0{label}\n".encode())
        return whole.hexdigest()

    def crop(self, index: int, recipe: Recipe) -> NDArray[np.uint8]:
        """A picture as a client's would be made to fit, UINT8 [crop,crop,3].

        Raises:
            PictureError: it cannot be read; one line that names the file.
        """
        file = self.files[index]
        try:
            return decode(file.read_bytes(), recipe, _MAX_PIXELS)
        except OSError as error:
            raise PictureError(f"{self.option}: {file}: {error.strerror}") from None
        except InvalidRequest as error:
            raise PictureError(f"{self.option}: {file}: {error}") from None

    def spread(self, most: int) -> PictureFolder:
        """At most so many of them, evenly from the first to the last."""
        if len(self) <= most:
            return self
        chosen = [index * len(self) // most for index in range(most)]
        return dataclasses.replace(
            self,
            files=tuple(self.files[index] for index in chosen),
            labels=None if self.labels is None else tuple(self.labels[index] for index in chosen),
        )

    def told(self) -> list[str]:
        """A line for each thing that people may not expect of these pictures."""
        lines = [self.told_left_out()]
        if self.strays:
            are, lie = (
                ("1 picture is", "it lies")
                if self.strays == 1
                else (f"{self.strays} pictures are", "they lie")
            )
            lines.append(f"{self.option}: {are} left out, for {lie} beside the folders of classes")
        if self.unlabelled:
            lines.append(f"{self.option}: its pictures have no labels, for {self.unlabelled}")
        return [line for line in lines if line]

    def told_left_out(self) -> str:
        """One line on the files that are left out; empty where none is."""
        count = sum(self.left_out.values())
        if not count:
            return ""
        # A name may hold line ends, and worse.
        endings = [
            f"{times} {ascii(ending)[1:-1] or 'without an ending'}"
            for ending, times in self._endings()
        ]
        are = "1 file is" if count == 1 else f"{count} files are"
        return (
            f"{self.option}: {are} left out, for only JPEG and PNG are read: {', '.join(endings)}"
        )

    def told_seen(self, calibrating: PictureFolder) -> str:
        """One line on the files that are in another folder's, too; empty where none is.

        Args:
            calibrating: what INT8 is made on.
        """
        others = {file.resolve() for file in calibrating.files}
        count = sum(file.resolve() in others for file in self.files)
        if not count:
            return ""
        return (
            f"{self.option}: {count} of its {len(self)} pictures are of {calibrating.option}, too: "
            "int8 has seen them, and does better on them than on others"
        )

    def _endings(self) -> Sequence[tuple[str, int]]:
        known = [*self.left_out.items()]
        rest = known[_MOST_ENDINGS:]
        return [*known[:_MOST_ENDINGS], *([("others", sum(t for _, t in rest))] if rest else [])]


@functools.lru_cache(maxsize=4096)
def _sample(file: Path, state: tuple[int, ...]) -> bytes:
    """SHA-256 of a file, of a large one of its ends; ``state`` changes whenever the file does.

    Both formats are compressed, so that other pixels change an end or the size, and PNG's end has
    a checksum of all.
    """
    _, size_bytes, *_ = state
    with file.open("rb") as stream:
        if size_bytes <= 2 * _END_BYTES:
            return hashlib.file_digest(stream, "sha256").digest()
        ends = hashlib.sha256(stream.read(_END_BYTES))
        stream.seek(-_END_BYTES, os.SEEK_END)
        ends.update(stream.read(_END_BYTES))
        return ends.digest()


def read(
    path: Path, option: str, classes: Sequence[str], *, labelled: bool = True
) -> PictureFolder:
    """The pictures that a path names.

    Args:
        path: a folder or a CSV file.
        option: the option's name, for errors.
        classes: the model's labels, in the order of its answers; empty where it has none.
        labelled: False where labels do not matter, whatever they are.

    Raises:
        ConfigError: there is nothing, no pictures, or a label that is no class; one line.
    """
    option = f"{option} {path}"
    try:
        if path.is_dir():
            return _folder(path, option, classes if labelled else ())
        if path.is_file():
            return _table(path, option, classes if labelled else None)
    except OSError as error:
        raise ConfigError(f"{option}: {error.strerror}") from None
    raise ConfigError(f"{option}: no such folder or CSV file")


def _folder(path: Path, option: str, classes: Sequence[str]) -> PictureFolder:
    named = [file for file in entries(path) if not file.name.startswith(".")]
    # What programs keep in folders of their own is a copy, unless there is nothing else.
    there = [
        file
        for file in named
        if not any(part.startswith(".") for part in file.relative_to(path).parts)
    ] or named
    files = sorted(file for file in there if file.suffix.lower() in _SUFFIXES)
    others = Counter(file.suffix.lower() for file in there)
    left_out = {
        end: times
        for end, times in sorted(others.items(), key=lambda found: (-found[1], found[0]))
        if end not in _SUFFIXES
    }
    if not files:
        told = PictureFolder(option, (), None, left_out).told_left_out().removeprefix(option)
        raise ConfigError(f"{option}: no JPEG or PNG in it{told.replace(': ', '; ', 1)}")
    regular = os.path.isfile  # it never raises
    if odd := next((file for file in files if not regular(file)), None):
        fault = "the link leads nowhere" if odd.is_symlink() else "it is no file"
        raise ConfigError(f"{option}: {odd}: {fault}")
    inside = [file for file in files if file.parent != path]
    heap = PictureFolder(option, tuple(files), None, left_out)
    if not classes or not inside:
        return heap
    strays = len(files) - len(inside)
    if strays >= len(inside):
        return dataclasses.replace(heap, unlabelled="as many or more of them lie in no folder")
    names = sorted({file.relative_to(path).parts[0] for file in inside})
    numbers = _Numbers(option, classes, names)
    try:
        labels = tuple(numbers.of(file.relative_to(path).parts[0]) for file in inside)
    except ConfigError as error:
        if not strays:
            raise
        # What lies in folders and beside them need not be meant as classes.
        told = str(error).removeprefix(f"{option}: ")
        return dataclasses.replace(heap, unlabelled=f"some lie in no folder, and {told}")
    return PictureFolder(option, tuple(inside), labels, left_out, strays)


def _table(path: Path, option: str, classes: Sequence[str] | None) -> PictureFolder:
    rows = picture_csv.read(path, option)
    files = tuple(file for file, _ in rows)
    if classes is None:
        return PictureFolder(option, files, None)
    if not classes:
        raise ConfigError(f"{option}: the model's answers are no scores of classes")
    numbers = _Numbers(option, classes, [label for _, label in rows])
    labels = tuple(numbers.of(label) for _, label in rows)
    return PictureFolder(option, files, labels)


class _Numbers:
    """Numbers of classes by what people call them."""

    def __init__(self, option: str, classes: Sequence[str], names: Sequence[str]) -> None:
        self._option = option
        self._classes = classes
        times = Counter(classes)
        self._exactly = {label: number for number, label in enumerate(classes) if times[label] == 1}
        self._by_name: dict[str, list[int]] = {}
        for number, label in enumerate(classes):
            self._by_name.setdefault(_plain(label), []).append(number)
        wordnet = sorted({name for name in names if _WORDNET.fullmatch(name)})
        told = [found[0] for label in classes if (found := _WORDNET.match(label))]
        self._wordnet = {}
        if len(set(told)) == len(classes):
            # The labels say which is which: their order need not be the numbers'.
            self._wordnet = {name: number for number, name in enumerate(told)}
        elif len(wordnet) == len(classes):
            self._wordnet = {name: number for number, name in enumerate(wordnet)}

    def of(self, name: str) -> int:
        """A class's number.

        Raises:
            ConfigError: no class is called that, or several are.
        """
        if name in self._wordnet:
            return self._wordnet[name]
        # Classes may differ by what does not count otherwise.
        if name in self._exactly:
            return self._exactly[name]
        # A hyphen before a number is its sign, and no way to write the number.
        found = [] if _SIGNED.fullmatch(name) else self._by_name.get(_plain(name), [])
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            numbers = " and ".join(str(number) for number in found)
            raise ConfigError(
                f"{self._option}: {name!r} are classes {numbers}; name them by number"
            )
        digits = name.strip()
        if digits.isdecimal() and len(digits) <= _MOST_DIGITS and int(digits) < len(self._classes):
            return int(digits)
        raise ConfigError(
            f"{self._option}: no class is called {name[:_SHOWN]!r}; a label or a number from 0 to "
            f"{len(self._classes) - 1} is needed"
        )


_SIGNED = re.compile(r"\s*[+-]\s*\d+\s*")


def _plain(label: str) -> str:
    """Labels that people write alike: case, spaces, underscores and hyphens do not count.

    Nor does whether an accent is a character of its own, as in names of files from macOS.
    """
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFC", label)).strip().casefold()
