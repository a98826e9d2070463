"""Standard output for tables, whose reader may have seen enough."""

from __future__ import annotations

from rich.console import Console


class StandardOutput(Console):
    """Leaves what a closed pipe means to the command; rich would end it with exit code 1."""

    def on_broken_pipe(self) -> None:
        """Raises BrokenPipeError."""
        raise BrokenPipeError
