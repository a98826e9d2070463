"""Ports that others can reach, and who was not told that they can."""

from __future__ import annotations

import pytest

from corral.settings import Settings
from corral.supervisor.exposure import exposure

NOTHING = "neither --auth-token-file nor --tls-client-ca is given"


@pytest.mark.parametrize(
    ("settings", "sentences"),
    [
        ({}, []),
        ({"host": "::ffff:127.0.0.1", "metrics_host": "[::1%lo]"}, []),
        (
            {"host": "0.0.0.0"},
            [f"everybody who can reach 0.0.0.0 may use the server: {NOTHING}"],
        ),
        (
            {"metrics_host": "10.0.0.1"},
            [f"everybody who can reach 10.0.0.1 may read /metrics: {NOTHING}"],
        ),
        (
            {"metrics_host": "::", "auth_token_file": "tokens"},
            ["bearer tokens travel unencrypted to ::: no --tls-cert is given"],
        ),
        (
            {"host": "0.0.0.0", "metrics_host": "0.0.0.0", "auth_token_file": "tokens"},
            ["bearer tokens travel unencrypted to 0.0.0.0: no --tls-cert is given"],
        ),
        (
            {
                "host": "0.0.0.0",
                "metrics_host": "0.0.0.0",
                "tls_cert": "c",
                "tls_key": "k",
                "auth_token_file": "tokens",
            },
            [],
        ),
        (
            {"metrics_host": "0.0.0.0", "tls_cert": "c", "tls_key": "k", "tls_client_ca": "ca"},
            [],
        ),
        (
            {"metrics_host": "0.0.0.0", "tls_cert": "c", "tls_key": "k"},
            [f"everybody who can reach 0.0.0.0 may read /metrics: {NOTHING}"],
        ),
    ],
)
def test_what_is_open_to_everybody_is_said(settings: dict[str, str], sentences: list[str]) -> None:
    assert exposure(Settings.flat(**settings)) == sentences
