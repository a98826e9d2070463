"""Writes what the fuzzers start from: ``python tests/fuzz/write_corpus.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import fuzzing


def main() -> None:
    """A folder for each fuzzer."""
    folder = Path(sys.argv[1])
    for name, contents in (("wire", fuzzing.seeds()), ("images", fuzzing.picture_seeds())):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(contents):
            (folder / name / f"seed-{number}").write_bytes(content)


if __name__ == "__main__":
    main()
