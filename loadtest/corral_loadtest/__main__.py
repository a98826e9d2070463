"""Entry of ``corral-loadtest``, and of ``python -m corral_loadtest``.

Nothing that may be missing is imported before it is known to be there.
"""

from __future__ import annotations

from corral_client.console import (
    import_numpy_for_one_thread,
    obey,
    printing,
    require,
    settle,
)

_NEEDS = ("grpc", "google.protobuf", "numpy", "hdrh", "matplotlib", "msgspec", "PIL", "rich")


def main() -> None:
    """Runs the command; without the extra that it needs, one line and exit code 2."""
    settle()
    require("corral-loadtest", "loadtest", _NEEDS)
    import_numpy_for_one_thread()
    from corral_loadtest.cli.main import main as run

    with printing("corral-loadtest"):
        obey(run)


if __name__ == "__main__":
    main()
