"""Certificate files: what fits together, and what is said when it does not."""

from __future__ import annotations

import os
from pathlib import Path

import h2corn
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from h2corn._lib import prepare_tls
from h2corn._server import TlsMaterial
from support.certificates import Authority, Pair, private, write_self_signed

from corral.errors import ConfigError
from corral.security import tls
from corral.security.certificate_names import validity
from corral.system.watched_file import WatchedFile


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture
def server(authority: Authority) -> Pair:
    return authority.issue("server", "localhost")


def watch(pair: Pair, ca: Path | None = None) -> WatchedFile[tls.Material]:
    found = tls.watch(str(pair.cert), str(pair.key), str(ca) if ca else None)
    assert found
    return found


@pytest.mark.parametrize("part", ["cert", "key"])
def test_a_file_without_an_end_in_sight_is_refused_with_its_unit(server: Pair, part: str) -> None:
    os.truncate(getattr(server, part), 2**24 + 1)
    with pytest.raises(ConfigError, match=f"--tls-{part} .*: it has more than 16 MiB$"):
        watch(server)


def test_without_files_there_is_no_tls() -> None:
    assert tls.watch(None, None, None) is None


def test_a_new_certificate_is_found_and_an_unchanged_one_is_the_same_object(
    authority: Authority, server: Pair
) -> None:
    files = watch(server, authority.file)
    first = files.current()
    assert files.current() is first
    authority.issue("server", "localhost")
    second = files.current()
    assert second is not first
    assert second.certificate == server.cert.read_bytes() != first.certificate


def test_a_broken_new_file_keeps_the_old_with_one_warning(
    server: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    files = watch(server)
    first = files.current()
    server.cert.write_text("half a certif")
    assert files.current() is first
    assert files.current() is first
    assert caplog.text.count("the old content stays in force") == 1


def test_an_authority_that_is_cut_to_nothing_changes_nothing(
    authority: Authority, server: Pair, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trusted = folder / "trusted.pem"
    trusted.write_bytes(authority.file.read_bytes())
    files = watch(server, trusted)
    first = files.current()
    trusted.write_bytes(b"")
    assert files.current() is first
    assert "no PEM certificates" in caplog.text
    trusted.write_bytes(authority.file.read_bytes())
    assert files.current() is not first


def test_a_reader_that_breaks_keeps_the_old_content(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = private(tmp_path / "number", "1")
    watched = WatchedFile([file], lambda: int(file.read_text()), every_s=0.0)
    private(file, "many")
    assert watched.current() == 1
    assert watched.current() == 1
    assert caplog.text.count("the old content stays in force") == 1
    private(file, "23")
    assert watched.current() == 23


def test_useless_files_are_refused_in_one_line(
    authority: Authority, server: Pair, folder: Path
) -> None:
    other = authority.issue("other", "localhost")
    junk = private(folder / "junk.pem", "junk")
    empty = private(folder / "empty.pem", "")
    readable = folder / "readable.key"
    readable.write_bytes(server.key.read_bytes())
    readable.chmod(0o644)
    for pair, ca, sentence in (
        (Pair(server.cert, other.key), None, "another certificate's"),
        (Pair(junk, server.key), None, "not a PEM certificate"),
        (Pair(server.cert, junk), None, "not a PEM certificate"),
        (Pair(server.cert, readable), None, "every user of this machine"),
        (Pair(folder / "none", server.key), None, "--tls-cert .*no such file"),
        (Pair(server.cert, folder / "none"), None, "--tls-key .*no such file"),
        (Pair(empty, server.key), None, "not a PEM certificate"),
        (Pair(server.cert, empty), None, "not a PEM certificate"),
        (server, junk, "--tls-client-ca .*no PEM certificates"),
        (server, empty, "--tls-client-ca .*no PEM certificates"),
    ):
        with pytest.raises(ConfigError, match=sentence) as caught:
            watch(pair, ca)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["rsa", "p-256", "p-521", "ed25519"],
)
def test_keys_that_openssl_and_the_http_server_serve(
    server: Pair, key: CertificateIssuerPrivateKeyTypes
) -> None:
    write_self_signed(server, key)
    assert watch(server).current().key == server.key.read_bytes()
    assert is_taken_by_h2corn(server)


@pytest.mark.parametrize(
    "key",
    [ed448.Ed448PrivateKey.generate(), ec.generate_private_key(ec.SECP256K1())],
    ids=["ed448", "secp256k1"],
)
def test_keys_that_openssl_alone_serves_are_refused(
    server: Pair, key: CertificateIssuerPrivateKeyTypes
) -> None:
    """The metrics port would show another certificate than the others."""
    write_self_signed(server, key)
    assert not is_taken_by_h2corn(server)
    with pytest.raises(ConfigError, match="a key of a kind that is not served"):
        watch(server)


def test_why_a_key_is_refused_is_said(server: Pair, authority: Authority) -> None:
    write_self_signed(server, rsa.generate_private_key(65537, 1024))
    with pytest.raises(ConfigError, match="too short"):
        watch(server)
    write_self_signed(server, rsa.generate_private_key(65537, 2048))
    # trustme's are of elliptic curves.
    other = authority.issue("other", "localhost")
    with pytest.raises(ConfigError, match="another certificate's"):
        watch(Pair(server.cert, other.key))


def is_taken_by_h2corn(pair: Pair) -> bool:
    name = Path("tls")
    config = h2corn.Config(bind=("fd://0",), certfile=name, keyfile=name)
    try:
        prepare_tls(config, TlsMaterial(pair.cert.read_bytes(), pair.key.read_bytes(), None))
    except (ValueError, OSError):
        return False
    return True


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(
    authority: Authority, server: Pair
) -> None:
    from cryptography.hazmat.primitives import serialization as s

    key = s.load_pem_private_key(server.key.read_bytes(), None)
    locked = key.private_bytes(
        s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"secret")
    )
    server.key.write_bytes(locked)
    with pytest.raises(ConfigError, match="unencrypted"):
        watch(server)


def test_when_a_certificate_is_valid(authority: Authority) -> None:
    for days, word in (((-1, 1), None), ((-2, -1), "expired on"), ((1, 2), "not valid before")):
        doubt = watch(authority.issue("server", "localhost", valid_days=days)).current().doubt
        assert doubt is None if word is None else doubt is not None and word in doubt
    assert validity("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----") is None
