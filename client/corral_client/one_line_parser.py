"""A parser of a command line that refuses in one line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, and not the whole usage with it."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with exit code 2."""
        said = message.removeprefix("argument ")
        self.exit(2, f"{self.prog}: {said} (see {self.prog} --help)\n")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        # argparse itself takes "--" for the end of the options in --NAME=--, too.
        if arg_strings == ["--"] and action.option_strings and action.nargs in {None, "+"}:
            value = self._get_value(action, "--")
            self._check_value(action, value)
            return value if action.nargs is None else [value]
        return super()._get_values(action, arg_strings)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        # Path("") is the current folder, and nobody who leaves a word empty means that.
        if action.type is Path and not arg_string:
            raise argparse.ArgumentError(action, "a path is needed, not ''")
        return super()._get_value(action, arg_string)
