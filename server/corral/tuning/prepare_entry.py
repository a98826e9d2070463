"""Entry of the child that prepares a model: ``python -m corral.tuning.prepare_entry ORDER_FD``.

It may run on an interpreter that lacks what corral needs. Nothing that can be missing is imported
before it says so, in one line and not a traceback.
"""

from __future__ import annotations

import sys

from corral import extras


def main() -> None:
    """Hands over to prepare.main; without what that needs, one line and exit code 2."""
    try:
        from corral.tuning import prepare
    except (ImportError, SyntaxError) as error:
        print(explain(error, sys.executable))
        sys.exit(2)
    prepare.main()


def explain(error: ImportError | SyntaxError, python: str) -> str:
    """One line for a person: what the interpreter ``python`` lacks, and what brings it."""
    if isinstance(error, ModuleNotFoundError):
        return (
            f"--worker-python {python}: the Python package {error.name!r} is not installed there; "
            f"{extras.install('serve', python=python)} brings it"
        )
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"--worker-python {python}: corral does not run there: {reason}"


if __name__ == "__main__":
    main()
