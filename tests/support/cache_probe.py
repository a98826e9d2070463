"""Whether a cache can be had here. Run as a program: ``cache_probe.py ENVIRONMENTS``.

For each environment of a JSON list it finds the cache folder as the commands do, and stores an
artefact and a measurement there. It prints a JSON list: folder, warning, how that went, and the
modes of what was made.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from corral.cli import cache_folder
from corral.errors import ConfigError
from support import full_disk


def probe(environ: dict[str, str]) -> dict[str, Any]:
    """What comes of one environment."""
    said = io.StringIO()
    logging.basicConfig(stream=said, format="%(levelname)s %(message)s", force=True)
    found = cache_folder.find_cache(environ)
    row: dict[str, Any] = {"folder": found.path, "warning": found.warning, "usable": found.usable}
    folder = Path(found.path)
    try:
        cache_folder.check(found.path)
        row["artefact"] = full_disk.store_artefact(folder)
        row["curve"] = full_disk.cache_curve(folder)
    except ConfigError as error:
        row["artefact"] = f"refused: {error}"
    row["said"] = said.getvalue()
    row["modes"] = sorted(
        {oct(path.stat().st_mode & 0o777) for path in [folder, *folder.rglob("*")] if path.is_dir()}
        if os.access(folder, os.R_OK | os.X_OK)
        else ()
    )
    return row


def main() -> None:
    """Prints what comes of each environment."""
    os.umask(os.umask(0) & 0o077)
    print(json.dumps([probe(environ) for environ in json.loads(sys.argv[1])]))


if __name__ == "__main__":
    main()
