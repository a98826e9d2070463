"""Which class a folder or a CSV's label means: a label in any case, a number, or WordNet's."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from corral.errors import ConfigError

#: letters of a label that a message repeats
SHOWN = 100
#: of a class's number; Python refuses to read thousands of them
_MOST_DIGITS = 100
_WORDNET = re.compile(r"n\d{8}(?!\d)")
_SIGNED = re.compile(r"\s*[+-]\s*\d+\s*")


class ClassNumbers:
    """Numbers of classes by what people call them.

    Args:
        option: what names them, for errors.
        classes: the model's labels, in the order of its answers.
        names: all that there are to look up: WordNet's numbers, one a class, are in their order.
    """

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
            f"{self._option}: no class is called {name[:SHOWN]!r}; a label or a number from 0 to "
            f"{len(self._classes) - 1} is needed"
        )


def _plain(label: str) -> str:
    """Labels that people write alike: case, spaces, underscores and hyphens do not count.

    Nor does whether an accent is a character of its own, as in names of files from macOS.
    """
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFC", label)).strip().casefold()
