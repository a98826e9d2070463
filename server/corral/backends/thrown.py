"""What an engine throws, in one line for a person."""

from __future__ import annotations

from corral.backends.registry import engine
from corral.errors import telling_line
from corral.settings import BackendName
from corral.system.limits import NO_EXECUTABLE_MEMORY, refuses_executable_memory

#: what exceptions of C++ become in Python: std::stoi of an odd file throws an invalid_argument
THROWN = (RuntimeError, ValueError, IndexError, OverflowError)


def explain(error: Exception, name: BackendName) -> str:
    """The line of the exception that says most; and what took the engine's own code away, if so.

    Args:
        error: what the engine raised.
        name: the engine.
    """
    line = telling_line(error)
    if engine(name).writes_code and refuses_executable_memory():
        return f"{line}: {NO_EXECUTABLE_MEMORY}"
    return line
