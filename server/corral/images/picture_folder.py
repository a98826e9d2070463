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
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corral.errors import ConfigError, InvalidRequest, PictureError
from corral.images import picture_csv, picture_files
from corral.images.class_numbers import SHOWN, ClassNumbers
from corral.images.decode import decode
from corral.models.files import entries
from corral.models.spec import Recipe

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
#: endings that a message names
_MOST_ENDINGS = 5
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
        copies: how many files are left out, being copies of others here.
        torn: how many files are left out, being one picture under several labels.
        torn_told: the first of these, each with its label.
        unlabelled: why pictures in folders have no labels; empty where they have, or lie in none.
    """

    option: str
    files: tuple[Path, ...]
    labels: tuple[int, ...] | None
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    strays: int = 0
    copies: int = 0
    torn: int = 0
    torn_told: str = ""
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
                content = picture_files.content(file)
            except OSError as error:
                raise PictureError(f"{self.option}: {file}: {error.strerror}") from None
            whole.update(content + f"\0{label}\n".encode())
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
        if self.copies:
            are = (
                "1 file is left out, for it is a copy of another"
                if self.copies == 1
                else f"{self.copies} files are left out, for they are copies of others"
            )
            lines.append(f"{self.option}: {are}: a picture counts once")
        if self.torn:
            lines.append(
                f"{self.option}: {self.torn} files are left out, for one picture has several "
                f"labels: {self.torn_told}"
            )
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

    def check_count(self, least: int) -> None:
        """Raises ConfigError where there are fewer pictures; one line."""
        if len(self) >= least:
            return
        pictures = "1 picture" if len(self) == 1 else f"{len(self)} pictures"
        others, different = "", ""
        if self.copies or self.torn:
            copies = "1 copy" if self.copies == 1 else f"{self.copies} copies"
            parts = [copies] * bool(self.copies)
            parts += [f"{self.torn} files of several labels"] * bool(self.torn)
            others, different = f" beside {' and '.join(parts)}", " different ones"
        raise ConfigError(
            f"{self.option}: {pictures}{others}; {least} or more{different} are needed"
        )

    def told_seen(self, calibrating: PictureFolder) -> str:
        """One line on the files that are in another folder's, too; empty where none is.

        Args:
            calibrating: what INT8 is made on.
        """
        try:
            both = picture_files.distinct([*calibrating.files, *self.files], None)
        except OSError as error:
            raise PictureError(f"{self.option}: {error.filename}: {error.strerror}") from None
        count = len(calibrating) + len(self) - len(both.kept)
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
            found = _folder(path, option, classes if labelled else ())
        elif path.is_file():
            found = _table(path, option, classes if labelled else None)
        else:
            raise ConfigError(f"{option}: no such folder or CSV file")
        return _without_copies(found, classes)
    except OSError as error:
        where = "" if error.filename in (None, str(path)) else f"{os.fsdecode(error.filename)}: "
        raise ConfigError(f"{option}: {where}{error.strerror}") from None


def _without_copies(found: PictureFolder, classes: Sequence[str]) -> PictureFolder:
    """The same with each picture once, and without those whose labels contradict each other."""
    seen = picture_files.distinct(found.files, found.labels)
    if len(seen.kept) == len(found):
        return found
    labels, told = found.labels, ""
    if seen.torn and labels is not None:
        first, *others = seen.torn[0]
        other = next(index for index in others if labels[index] != labels[first])
        told = " and ".join(
            f"{found.files[index]} is {classes[labels[index]][:SHOWN]!r}"
            for index in (first, other)
        )
    if not seen.kept:
        raise ConfigError(f"{found.option}: every picture has several labels: {told}")
    return dataclasses.replace(
        found,
        files=tuple(found.files[index] for index in seen.kept),
        labels=None if labels is None else tuple(labels[index] for index in seen.kept),
        copies=seen.copies,
        torn=sum(map(len, seen.torn)),
        torn_told=told,
    )


def _check_readable(option: str, paths: Sequence[Path]) -> None:
    """Raises ConfigError: what cannot be read must not be missing without a word.

    A folder that cannot be listed, or a link to nothing, may be a whole class.
    """
    for path in paths:
        why = picture_files.unreadable(path)
        if not why or (not _is_picture(path) and picture_files.is_no_folder(path)):
            continue
        where = "" if option.endswith(f" {path}") else f"{path}: "
        raise ConfigError(f"{option}: {where}{why}; make it readable, or take it out of there")


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES


def _folder(path: Path, option: str, classes: Sequence[str]) -> PictureFolder:
    named = [file for file in entries(path) if not file.name.startswith(".")]
    # What programs keep in folders of their own is a copy, unless there is nothing else.
    there = [
        file
        for file in named
        if not any(part.startswith(".") for part in file.relative_to(path).parts)
    ] or named
    _check_readable(option, there)
    files = sorted(filter(_is_picture, there))
    others = Counter(file.suffix.lower() for file in there)
    left_out = {
        end: times
        for end, times in sorted(others.items(), key=lambda found: (-found[1], found[0]))
        if end not in _SUFFIXES
    }
    if not files:
        told = PictureFolder(option, (), None, left_out).told_left_out().removeprefix(option)
        raise ConfigError(f"{option}: no JPEG or PNG in it{told.replace(': ', '; ', 1)}")
    inside = [file for file in files if file.parent != path]
    heap = PictureFolder(option, tuple(files), None, left_out)
    if not classes or not inside:
        return heap
    strays = len(files) - len(inside)
    if strays >= len(inside):
        return dataclasses.replace(heap, unlabelled="as many or more of them lie in no folder")
    names = sorted({file.relative_to(path).parts[0] for file in inside})
    numbers = ClassNumbers(option, classes, names)
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
    _check_readable(option, files)
    if classes is None:
        return PictureFolder(option, files, None)
    if not classes:
        raise ConfigError(f"{option}: the model's answers are no scores of classes")
    numbers = ClassNumbers(option, classes, [label for _, label in rows])
    labels = tuple(numbers.of(label) for _, label in rows)
    return PictureFolder(option, files, labels)
