"""What an encoding without signs shows instead of them."""

from __future__ import annotations

import pytest

from corral.system import plain_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("██░░", "##.."),
        ("[▁▇█·]", "[17#.]"),
        ("12 µs", "12 us"),
        ("█é█", "#\\xe9#"),
        ("éä", "\\xe9\\xe4"),
        ("\udcff", "\\udcff"),
        ("plain", "plain"),
    ],
)
def test_signs_are_plain_and_the_rest_is_escaped(text: str, shown: str) -> None:
    assert text.encode("ascii", plain_text.register()).decode() == shown


def test_an_encoding_that_has_them_keeps_them() -> None:
    assert "█µ".encode("utf-8", plain_text.register()).decode() == "█µ"
