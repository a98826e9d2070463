"""Files that TLS is made of: what holds something else is told at once, by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.certificates import Authority

from corral_client.security import make_context, make_security, read_token


def _words(path: Path) -> str:
    return f"{path}: "


@pytest.mark.parametrize("make", [make_security, make_context])
def test_what_is_no_certificate_is_named(make: object, tmp_path: Path) -> None:
    assert callable(make)
    authority = Authority(tmp_path)
    pair, other = authority.issue("one", "a"), authority.issue("two", "b")
    cert, key = pair.cert, pair.key
    junk = tmp_path / "junk.pem"
    junk.write_text("junk\n")
    for given, named in (
        ({"ca": junk}, junk),
        ({"cert": junk, "key": key}, junk),
        ({"cert": cert, "key": junk}, junk),
        ({"cert": cert, "key": other.key}, other.key),
        ({"ca": Path("/dev/zero")}, Path("/dev/zero")),
    ):
        with pytest.raises(ValueError, match=r".") as refused:
            make(**given)
        assert str(refused.value).startswith(_words(named))
    with pytest.raises(OSError, match=r"none\.pem") as missing:
        make(ca=tmp_path / "none.pem")
    assert missing.value.filename == str(tmp_path / "none.pem")
    assert make(ca=authority.file, cert=cert, key=key)


def test_a_file_of_tokens_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"\xff")
    for wrong in (path, Path("/dev/zero")):
        with pytest.raises(ValueError, match=r".") as refused:
            read_token(wrong)
        assert str(refused.value).startswith(_words(wrong))
