"""What an option takes, in words: for the configuration page, and for refusals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from corral.settings.option import Option

#: a bound beyond it is what a number of the machine can hold, which nobody needs to read
_READABLE = 1e8
_LARGEST = 1e20
_SHOWN_CHARACTERS = 60


def values(option: Option) -> str:
    """What an option takes: "1 to 256 items", "0 or more seconds", "rti or throughput"."""
    if option.kind is bool:
        return "on or off"
    if option.choices:
        return _either(option.choices)
    if option.kind is tuple:
        return "names"
    if option.kind is str:
        return "text"
    if option.unit == "%":
        return f"{option.least:.0%} to {option.most:.0%}"
    found = _range(option)
    return " or ".join([" ".join(filter(None, (found, option.unit))), *option.words])


def needed(option: Option, value: Any = None) -> str:
    """What an option takes, as the beginning of a sentence: "a whole number of items, 1 to 256,".

    Args:
        option: the option.
        value: what was written instead; it decides which end of a wide range is worth a word.
    """
    if option.kind in {int, float} and option.unit != "%":
        return _number(option, value)
    if option.kind in {int, float}:
        return f"a percentage from {option.least:.0%} to {option.most:.0%}, such as 1%,"
    if option.choices:
        return _either(option.choices)
    kinds: dict[Any, str] = {bool: "true or false", tuple: "a list of texts that are not empty"}
    return kinds.get(option.kind) or option.needed or "a text"


def _number(option: Option, value: Any) -> str:
    kind = "a whole number" if option.kind is int else "a number"
    if isinstance(value, float) and not math.isfinite(value):
        kind = "a finite number"
    if option.unit:
        kind += f" of {option.unit}"
    if option.least is not None and option.least < -_READABLE:
        return kind
    return " or ".join([f"{kind}, {_range(option, value)},", *option.words])


def refusal(option: Option, value: Any) -> str:
    """One line for a value that an option does not take.

    Args:
        option: the option.
        value: as it was written.
    """
    return f"{needed(option, value)} is needed, not {shortened(value)}"


def shortened(value: Any) -> str:
    """A value as somebody wrote it, on a part of one line."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def suggestion(word: str, known: Iterable[str]) -> str:
    """ " (did you mean max-batch?)" for a word that is close to a known one, else "".

    Args:
        word: as it was written.
        known: all that there are.
    """
    import difflib  # 5 ms, for those alone who wrote something wrong

    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _either(words: tuple[str, ...]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}"


def _range(option: Option, value: Any = None) -> str:
    least, most = option.least, option.most
    assert least is not None
    assert most is not None
    is_above = isinstance(value, int | float) and most < value < math.inf
    if most > _READABLE and not is_above:
        if least < -_READABLE:
            return "any number of"
        return f"more than {least:g}" if option.above else f"{least:g} or more"
    if option.above:
        return f"more than {least:g}, at most {_end(most)}"
    return f"{least:g} to {_end(most)}"


def _end(most: float) -> str:
    """Whole numbers of the size of 64 bits with all their digits."""
    return str(int(most)) if most < _LARGEST and most == int(most) else f"{most:g}"
