"""What tables are printed to: standard output, whose reader may go, or standard error."""

from __future__ import annotations

from rich.console import Console

#: columns of a terminal that does not say
_USUAL = 80


class _Stream(Console):
    """Shows names as they are: brackets in a label are no markup, and ":cat:" is no picture.

    It leaves what a closed pipe means to the command; rich would end it with exit code 1.
    """

    def on_broken_pipe(self) -> None:
        if not self.stderr:
            raise BrokenPipeError
        # Whoever does not read what is said beside still wants what is done.
        self.quiet = True


def standard_output(columns: int | None = None) -> Console:
    """Standard output; ``columns``: its width where it is a file or a pipe, which has room."""
    return _sized(columns, stderr=False)


def standard_error(columns: int | None = None) -> Console:
    """Standard error; ``columns`` as above."""
    return _sized(columns, stderr=True)


def _sized(columns: int | None, *, stderr: bool) -> Console:
    found = _Stream(stderr=stderr, markup=False, emoji=False)
    if columns is not None and not found.is_terminal:
        found.width = columns
    if found.width < 1:
        # COLUMNS=0 says that nobody knows, and rich would print nothing at all.
        found.width = columns or _USUAL
    return found
