"""Who is let in: tokens, names, and what the settings say about both."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.certificates import private

from corral import settings
from corral.errors import ConfigError
from corral.security import credentials
from corral.security.credentials import (
    Access,
    TokenFile,
    Verdict,
    bearer_token,
    matches,
    parse_tokens,
)

ONE, TWO = "first-token-0123456789", "second-token-0123456789"
ALICE = frozenset({"alice"})
OK, WHO, NO = Verdict.ALLOWED, Verdict.UNAUTHENTICATED, Verdict.DENIED
BULK = Verdict.ALLOWED_IN_BULK


def test_tokens_are_lines_without_comments_and_blanks() -> None:
    assert parse_tokens(f"# ours\n{ONE}\n\n  {TWO} \n#{ONE}\n") == {ONE: OK, TWO: OK}
    assert parse_tokens(f"{ONE} bulk\n{TWO}\n") == {ONE: BULK, TWO: OK}
    assert parse_tokens("\n# nothing\n") == {}


@pytest.mark.parametrize(
    "line", ["short", "two words 0123456789", "unprintäble-0123456789", f"{TWO} x"]
)
def test_what_is_no_token_is_refused_without_repeating_it(line: str) -> None:
    with pytest.raises(ValueError, match="line 2") as caught:
        parse_tokens(f"{ONE}\n{line}")
    assert line not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (f"Bearer {ONE}", ONE),
        (f"bEARER  {ONE} ", ONE),
        (f"Basic {ONE}", None),
        (ONE, None),
        ("Bearer ", None),
        ("", None),
    ],
)
def test_a_bearer_token_is_found_in_its_header_only(header: str, token: str | None) -> None:
    assert bearer_token(header) == token


def test_every_known_token_is_compared_and_in_constant_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def compare(left: bytes, right: bytes) -> bool:
        seen.append((len(left), len(right)))
        return left == right

    known = {credentials.digest(token): OK for token in (ONE, TWO, "third-0123456789")}
    monkeypatch.setattr("hmac.compare_digest", compare)
    assert matches(ONE, known) is OK
    assert matches(ONE[:-1], known) is WHO
    assert matches("\udcff", known) is WHO
    # The first match ends nothing early, and lengths say nothing: digests are compared.
    assert seen == [(32, 32)] * 9


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    return TokenFile(private(tmp_path / "tokens", f"{ONE}\n{TWO}\n"), look_s=0.0)


def test_a_mark_that_an_editor_put_in_front_is_no_part_of_a_token(tmp_path: Path) -> None:
    marked = TokenFile(private(tmp_path / "tokens", f"\ufeff{ONE}\n"), look_s=0.0)
    assert marked.judge(ONE) is OK


def test_with_tokens_nobody_else_gets_in(tokens: TokenFile) -> None:
    access = Access(tokens=tokens)
    assert access.judge([f"Bearer {ONE}"], None) is OK
    assert access.judge([f"Bearer {TWO}"], None) is OK
    for wrong in (
        [],
        [""],
        ["Bearer "],
        [f"Bearer {ONE}x"],
        [f"Basic {ONE}"],
        [f"Bearer {ONE}"] * 2,
    ):
        assert access.judge(wrong, None) is WHO, wrong


def test_with_names_a_certificate_must_have_one_of_them() -> None:
    access = Access(names=frozenset({"alice", "carol"}), certificate_required=True)
    assert access.judge([], ALICE) is OK
    assert access.judge([], frozenset({"alice", "other"})) is OK
    assert access.judge([], frozenset({"mallory"})) is NO
    assert access.judge([], frozenset({"ALICE", "alice.", "*"})) is NO
    assert access.judge([], frozenset()) is NO
    assert access.judge([], None) is WHO
    # A proxy's header is no credential where none is asked for.
    assert access.judge(["Basic whatever"], ALICE) is OK


def test_with_both_either_will_do_but_a_wrong_token_is_never_ignored(tokens: TokenFile) -> None:
    access = Access(tokens=tokens, names=ALICE, certificate_required=True)
    assert access.judge([], ALICE) is OK
    assert access.judge([f"Bearer {ONE}"], frozenset({"mallory"})) is OK
    assert access.judge(["Bearer wrong-token-0123456"], ALICE) is WHO
    assert access.judge([], frozenset({"mallory"})) is NO
    assert access.judge([f"Bearer {ONE}"], None) is WHO


def test_with_tokens_and_an_authority_both_are_needed(tokens: TokenFile) -> None:
    access = Access(tokens=tokens, certificate_required=True)
    assert access.judge([f"Bearer {ONE}"], ALICE) is OK
    assert access.judge([], ALICE) is WHO
    assert access.judge([f"Bearer {ONE}"], None) is WHO


def test_with_an_authority_alone_any_verified_certificate_will_do() -> None:
    access = credentials.make_access(None, (), client_ca="ca.pem")
    assert access
    assert access.judge([], frozenset()) is OK
    assert access.judge([], None) is WHO


def test_with_nothing_configured_there_are_no_rules() -> None:
    assert credentials.make_access(None, (), client_ca=None) is None


def test_a_token_file_is_read_again_when_it_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = private(tmp_path / "tokens", ONE)
    tokens = TokenFile(path, look_s=0.0)
    private(path, TWO)
    assert tokens.judge(TWO) is OK
    assert tokens.judge(ONE) is WHO
    # What is broken, or open to others, changes nothing.
    private(path, "short")
    assert tokens.judge(TWO) is OK
    path.chmod(0o644)
    assert tokens.judge(TWO) is OK
    path.unlink()
    assert tokens.judge(TWO) is OK
    assert caplog.text.count("the old content stays in force") == 3
    # What is empty takes everything back.
    private(path, "# closed\n")
    assert tokens.judge(TWO) is WHO
    assert TWO not in caplog.text


@pytest.mark.parametrize(
    ("content", "mode", "sentence"),
    [
        ("", 0o600, "there is no token in it"),
        ("short", 0o600, "at least 16 characters"),
        (ONE, 0o644, "every user of this machine has access"),
        (ONE, 0o602, "every user of this machine has access"),
        (None, 0, "no such file"),
    ],
)
def test_a_useless_token_file_is_refused_in_one_line(
    tmp_path: Path, content: str | None, mode: int, sentence: str
) -> None:
    path = tmp_path / "tokens"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises(ConfigError, match=sentence) as caught:
        TokenFile(path)
    assert "\n" not in str(caught.value)
    assert "--auth-token-file" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"tls-cert": "c"}, "--tls-key"),
        ({"tls-key": "k"}, "--tls-cert"),
        ({"tls-client-ca": "a"}, "--tls-cert"),
        ({"allow-client": ["alice"]}, "--tls-client-ca"),
        ({"allow-client": ["alice"], "tls-cert": "c", "tls-key": "k"}, "--tls-client-ca"),
    ],
)
def test_half_of_a_configuration_is_refused(given: dict[str, object], missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        settings.build(given)
