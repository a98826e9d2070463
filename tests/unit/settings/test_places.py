"""Places that a server makes or writes: each is its own."""

from __future__ import annotations

import itertools

import pytest

from corral.errors import ConfigError
from corral.settings import Settings, build

_MADE = ("unix-socket", "admin-socket", "access-log")
_READ = ("model", "weights", "tls-key", "auth-token-file", "calibration")
#: without which the others are refused
_MORE = {"tls-cert": "cert.pem", "tls-key": "key.pem"}


@pytest.mark.parametrize(
    ("first", "own"), [*itertools.combinations(_MADE, 2), *itertools.product(_READ, _MADE)]
)
def test_one_place_for_two_purposes_is_refused(first: str, own: str) -> None:
    with pytest.raises(ConfigError, match=f"--{own} a/b: the same as --{first}"):
        build(_MORE, {first: "a/./b", own: "a/b"})


def test_places_of_their_own_are_taken() -> None:
    build(_MORE, {name: name for name in (*_MADE, *_READ)})
    assert build({"access-log": "-", "model": "-"}) == Settings.flat(access_log="-", model="-")
