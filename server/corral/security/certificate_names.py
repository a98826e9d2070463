"""The names in a client's certificate, which a TLS library has verified before; when one is valid.

Python's ssl module tells them of its own sockets only. What is read here is as little of X.509 as
that takes: the subject's common names, the subject alternative names, the validity, and the kind of
key.
"""

from __future__ import annotations

import base64
import datetime
import functools
import ipaddress
from collections.abc import Iterator

_SEQUENCE, _OID, _OCTETS, _BOOLEAN = 0x30, 0x06, 0x04, 0x01
_EXTENSIONS = 0xA3
_COMMON_NAME = bytes.fromhex("550403")
_ALTERNATIVE_NAMES = bytes.fromhex("551d11")
#: the kinds of alternative names that are text: e-mail, DNS, URI
_TEXTS = {0x81, 0x82, 0x86}
_ADDRESS = 0x87
_BMP_STRING = 0x1E
_VERSION = 0xA0
#: a time with two digits for the year
_SHORT_TIME = 0x17
#: places among the fields
_VALIDITY, _SUBJECT, _PUBLIC_KEY = 3, 4, 5
_RSA = bytes.fromhex("2a864886f70d010101")
_MOST_RSA_BITS = 8192
_EC, _ED25519 = bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2b6570")
#: P-256, P-384, P-521
_CURVES = {bytes.fromhex(number) for number in ("2a8648ce3d030107", "2b81040022", "2b81040023")}


@functools.lru_cache(maxsize=4096)
def names_in(certificate: str) -> frozenset[str]:
    """The common names and alternative names of a certificate.

    Args:
        certificate: PEM.

    Returns:
        text as it stands there, addresses as text; empty for what is no certificate.
    """
    try:
        return frozenset(_names(_fields(certificate)))
    except (IndexError, ValueError):
        return frozenset()


def validity(certificate: str) -> tuple[datetime.datetime, datetime.datetime] | None:
    """From when to when a certificate is valid.

    Args:
        certificate: PEM; the first counts.

    Returns:
        both in UTC; None for what is no certificate.
    """
    try:
        fields = _fields(certificate)
        start, end = _elements(fields[_VALIDITY][1])
        return _time(*start), _time(*end)
    except (IndexError, ValueError):
        return None


def has_served_key(certificate: str) -> bool:
    """Whether its key is of a kind that h2corn serves, which takes fewer kinds than OpenSSL.

    Args:
        certificate: PEM; the first counts.

    Returns:
        True also for what is no certificate.
    """
    try:
        [(_, algorithm), (_, key), *_] = _elements(_fields(certificate)[_PUBLIC_KEY][1])
        [(_, kind), *parameters] = _elements(algorithm)
        if kind == _RSA:
            # Behind a byte that counts unused bits.
            [(_, numbers)] = _elements(key[1:])
            [(_, modulus), *_] = _elements(numbers)
            return int.from_bytes(modulus, "big").bit_length() <= _MOST_RSA_BITS
        return kind == _ED25519 or (kind == _EC and parameters[0][1] in _CURVES)
    except (IndexError, ValueError):
        return True


def _time(tag: int, value: bytes) -> datetime.datetime:
    form = "%y%m%d%H%M%SZ" if tag == _SHORT_TIME else "%Y%m%d%H%M%SZ"
    found = datetime.datetime.strptime(value.decode("ascii"), form)
    return found.replace(tzinfo=datetime.UTC)


def _fields(certificate: str) -> list[tuple[int, bytes]]:
    """What is signed, without the version: serial number, signature, issuer, validity, subject …"""
    body = certificate.split("-----BEGIN CERTIFICATE-----")[1]
    der = base64.b64decode(body.split("-----END CERTIFICATE-----")[0])
    [(_, whole), *_] = _elements(der)
    [(_, signed), *_] = _elements(whole)
    fields = list(_elements(signed))
    return fields[1:] if fields[0][0] == _VERSION else fields


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """The tags and contents of what lies one after another; IndexError where it is cut short."""
    at = 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length >= 0x80:
            size = length & 0x7F
            length = int.from_bytes(der[at : at + size], "big")
            at += size
        if at + length > len(der):
            raise IndexError
        yield tag, der[at : at + length]
        at += length


def _names(fields: list[tuple[int, bytes]]) -> Iterator[str]:
    subject = fields[_SUBJECT][1]
    for _, relative in _elements(subject):
        for _, attribute in _elements(relative):
            [(_, kind), (tag, value), *_] = _elements(attribute)
            if kind == _COMMON_NAME:
                yield value.decode("utf-16-be" if tag == _BMP_STRING else "utf-8", "replace")
    for tag, content in fields:
        if tag == _EXTENSIONS:
            yield from _alternative_names(content)


def _alternative_names(extensions: bytes) -> Iterator[str]:
    [(_, listed), *_] = _elements(extensions)
    for _, extension in _elements(listed):
        [(_, kind), *rest] = _elements(extension)
        if kind != _ALTERNATIVE_NAMES:
            continue
        [(_, names), *_] = _elements(rest[-1][1])
        for tag, value in _elements(names):
            if tag in _TEXTS:
                yield value.decode("ascii", "replace")
            elif tag == _ADDRESS:
                yield str(ipaddress.ip_address(value))
