"""argparse with refusals of one line: what is wrong, and the nearest word that there is."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from corral.settings import Option
from corral.settings.ranges import refusal, shortened, suggestion


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and not the whole usage with it."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with exit code 2."""
        said = message.removeprefix("argument ")
        said = said.replace("invalid int value:", "a whole number is needed, not")
        said = said.replace("invalid float value:", "a number is needed, not")
        self.exit(2, f"{self.prog}: {said} (see {self.prog} --help)\n")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        # argparse itself takes "--" for the end of the options in --NAME=--, too.
        if arg_strings == ["--"] and action.option_strings and action.nargs in {None, "+"}:
            value = self._get_value(action, "--")
            self._check_value(action, value)
            return value if action.nargs is None else [value]
        return super()._get_values(action, arg_strings)

    def parse_known_args(  # type: ignore[override]  # argparse's has overloads for namespaces
        self, args: Any = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse's, but what is left over is refused by the command that it was meant for."""
        found, surplus = super().parse_known_args(args, namespace)
        if surplus:
            self.error(self._unknown(surplus[0]))
        return found, surplus

    def _unknown(self, word: str) -> str:
        name = word.partition("=")[0]
        shown = shortened(name)
        if not word.startswith("-"):
            return f"{shown} belongs to no option; a setting is written --NAME VALUE"
        known = re.findall(r"--[a-z][a-z0-9-]*", self.format_usage())
        return f"no option {shown}{suggestion(name, known)}"


def read_number(option: Option) -> Callable[[str], float | str]:
    """Reads an option's number, or one of its words; its range is checked with other settings'."""

    def read(text: str) -> float | str:
        if text in option.words:
            return text
        try:
            number: float = option.kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(refusal(option, text)) from None
        return number

    return read


def read_text(option: Option) -> Callable[[str], str]:
    """Reads a text like an option's: of a command that takes no settings."""

    def read(text: str) -> str:
        if not text:
            raise argparse.ArgumentTypeError(refusal(option, text))
        return text

    return read


def read_path(text: str) -> Path:
    """Reads a path. An empty one, a variable of a script that is not set, is no word for here."""
    if not text:
        raise argparse.ArgumentTypeError("a path is needed, not ''")
    return Path(text)


def read_in_range(option: Option) -> Callable[[str], float | str]:
    """Reads a number like an option's, range included: of a command that takes no settings."""
    read = read_number(option)

    def checked(text: str) -> float | str:
        number = read(text)
        least, most = option.least, option.most
        assert least is not None
        assert most is not None
        if isinstance(number, str):
            return number
        # No comparison with nan is true.
        if not (least < number if option.above else least <= number) or not number <= most:
            raise argparse.ArgumentTypeError(refusal(option, number))
        return number

    return checked
