"""atheris on pictures: ``make fuzz``, or ``fuzz_images.py [CORPUS] [-max_total_time=60]``.

Needs the extra ``fuzz``. Any exception but an InvalidRequest ends it with the picture that did it;
so does more than 512 MB (-rss_limit_mb), and more than 5 s (-timeout).
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["corral.images.decode", "corral.images.header", "PIL"]):
    from corral.errors import InvalidRequest
    from corral.images import decode as images
    from corral.models.spec import Recipe

SMALL = Recipe(resize=40, crop=32)
_MAX_PIXELS = 1_000_000


def one_picture(data: bytes) -> None:
    """Decodes it to pixels, or refuses it."""
    try:
        pixels = images.decode(data, SMALL, _MAX_PIXELS)
    except InvalidRequest as error:
        assert len(str(error)) < 200
        return
    assert pixels.shape == (32, 32, 3)


if __name__ == "__main__":
    limits = ["-max_len=1048576", "-rss_limit_mb=512", "-timeout=5"]
    atheris.Setup([*sys.argv, *limits], one_picture)
    atheris.Fuzz()
