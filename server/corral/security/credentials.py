"""Who may use the server: bearer tokens, and names in verified client certificates.

Knows nothing of gRPC or HTTP. As soon as anything is configured, everything else is refused.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import hmac
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from corral.errors import ConfigError
from corral.system.watched_file import WatchedFile, read_private

logger = logging.getLogger(__name__)

_OPTION = "--auth-token-file"
#: shorter ones can be guessed
MIN_TOKEN_CHARACTERS = 16
#: how soon a changed token file is noticed, seconds
_LOOK_S = 1.0


class Verdict(enum.Enum):
    """What becomes of a caller."""

    ALLOWED = "allowed"
    #: the same, and its requests are bulk, whatever they say
    ALLOWED_IN_BULK = "allowed in bulk"
    #: no credentials, or none that are valid
    UNAUTHENTICATED = "unauthenticated"
    #: known, and not allowed
    DENIED = "denied"


#: what each token allows, by its digest
Digests = Mapping[bytes, Verdict]


def parse_tokens(text: str) -> dict[str, Verdict]:
    """The tokens of a file and what each allows: one a line; its requests are bulk after " bulk".

    Empty lines and lines that begin with # are skipped.

    Raises:
        ValueError: what is wrong with which line; the text never repeats a token.
    """
    tokens = {}
    for number, line in enumerate(text.splitlines(), 1):
        token, _, word = line.strip().partition(" ")
        if not token or token.startswith("#"):
            continue
        if word.strip() not in {"", "bulk"}:
            raise ValueError(f"line {number}: a token has nothing but the word bulk behind it")
        if not token.isascii() or not token.isprintable():
            raise ValueError(f"line {number}: a token is printable ASCII without spaces")
        if len(token) < MIN_TOKEN_CHARACTERS:
            raise ValueError(
                f"line {number}: a token has at least {MIN_TOKEN_CHARACTERS} characters; "
                "openssl rand -hex 32 makes one"
            )
        tokens[token] = Verdict.ALLOWED_IN_BULK if word else Verdict.ALLOWED
    return tokens


def bearer_token(authorization: str) -> str | None:
    """The token in ``Bearer TOKEN``, the value of an authorization header; None: no such thing."""
    scheme, _, token = authorization.strip().partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and token else None


def digest(token: str) -> bytes:
    """What is kept and compared instead of a token; 32 bytes."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def matches(token: str, digests: Digests) -> Verdict:
    """What a token allows, in a time that does not tell which it is, or how nearly."""
    presented = digest(token)
    found = Verdict.UNAUTHENTICATED
    for known, allowed in digests.items():
        if hmac.compare_digest(presented, known):
            found = allowed
    return found


class TokenFile:
    """The tokens in a file, read again when it changes. Safe for any thread.

    A file without tokens is a mistake at the start; later it means that none is valid any more.

    Args:
        path: the file.
        look_s: how often to look whether it changed, seconds.

    Raises:
        ConfigError: it cannot be read, is open to everybody, or holds no token.
    """

    def __init__(self, path: Path, *, look_s: float = _LOOK_S) -> None:
        self._path = path
        self._started = False
        self._watched = WatchedFile([path], self._load, every_s=look_s)
        if not self._watched.current():
            raise ConfigError(f"{_OPTION} {path}: there is no token in it")
        self._started = True

    def judge(self, token: str) -> Verdict:
        """What the token allows now."""
        return matches(token, self._watched.current())

    def _load(self) -> Digests:
        content = read_private(self._path, _OPTION)
        try:
            # Some editors put a mark in front.
            tokens = parse_tokens(content.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise ConfigError(f"{_OPTION} {self._path}: not a text file") from None
        except ValueError as error:
            raise ConfigError(f"{_OPTION} {self._path}: {error}") from None
        if not tokens and self._started:
            logger.warning("%s %s: no token is valid", _OPTION, self._path)
        return {digest(token): allowed for token, allowed in tokens.items()}


class OneToken:
    """A token that no file holds.

    Args:
        token: it.
    """

    def __init__(self, token: str) -> None:
        self._digests = {digest(token): Verdict.ALLOWED}

    def judge(self, token: str) -> Verdict:
        """What the token allows."""
        return matches(token, self._digests)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Access:
    """The rules.

    Attributes:
        tokens: the valid bearer tokens; None when tokens are not used.
        names: names of the clients that may come by certificate; empty: names are not asked for.
        certificate_required: whether a verified certificate is needed whatever else there is.
    """

    tokens: TokenFile | OneToken | None = None
    names: frozenset[str] = frozenset()
    certificate_required: bool = False

    @property
    def by_header(self) -> bool:
        """Whether an authorization header is looked at."""
        return self.tokens is not None

    def judge(self, authorizations: Sequence[str], names: frozenset[str] | None) -> Verdict:
        """Decides.

        A wrong token is refused even where the certificate alone would do: somebody meant it.

        Args:
            authorizations: the values of the authorization headers; more than one is one too many.
            names: those in the verified client certificate (common name and subject alternative
                names, compared as they are); None: there is no such certificate.
        """
        if self.certificate_required and names is None:
            return Verdict.UNAUTHENTICATED
        if self.tokens is not None and authorizations:
            token = bearer_token(authorizations[0]) if len(authorizations) == 1 else None
            return Verdict.UNAUTHENTICATED if token is None else self.tokens.judge(token)
        if self.names:
            return Verdict.ALLOWED if names and names & self.names else Verdict.DENIED
        return Verdict.UNAUTHENTICATED if self.tokens is not None else Verdict.ALLOWED


def make_access(
    token_file: str | None, names: Sequence[str], *, client_ca: str | None
) -> Access | None:
    """The rules that the settings ask for; None when everybody may come.

    Raises:
        ConfigError: the token file is of no use.
    """
    if token_file is None and client_ca is None:
        return None
    return Access(
        tokens=None if token_file is None else TokenFile(Path(token_file)),
        names=frozenset(names),
        certificate_required=client_ca is not None,
    )
