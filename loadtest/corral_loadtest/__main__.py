"""``python -m corral_loadtest`` is ``corral-loadtest``."""

from __future__ import annotations

from corral_loadtest.cli.main import main

if __name__ == "__main__":
    main()
