"""Whether what the settings name for security can be used, and what is open to others."""

from __future__ import annotations

from corral.launch import worker_user
from corral.security import credentials, sandbox, tls
from corral.settings import SecuritySettings, Settings, is_loopback


def check_security(settings: Settings) -> None:
    """Makes sure that what the settings name for security is there and can be used.

    Raises:
        ConfigError: what is not.
    """
    tls.watch(
        settings.security.tls_cert, settings.security.tls_key, settings.security.tls_client_ca
    )
    make_access(settings.security)
    if settings.security.worker_user:
        worker_user.find_user(settings.security.worker_user)
    if settings.security.seccomp:
        sandbox.require_seccomp()


def make_access(security: SecuritySettings) -> credentials.Access | None:
    """Who may come in by these settings; None: everybody.

    Raises:
        ConfigError: the settings, or the files that they name, are of no use.
    """
    return credentials.make_access(
        security.auth_token_file,
        security.allow_client,
        client_ca=security.tls_client_ca,
    )


def doubts(security: SecuritySettings) -> list[str]:
    """Why clients will not trust the server; sentences.

    Raises:
        ConfigError: the files that the settings name are of no use.
    """
    files = tls.watch(security.tls_cert, security.tls_key, security.tls_client_ca)
    doubt = files.current().doubt if files else None
    return [doubt] if doubt else []


def exposure(settings: Settings) -> list[str]:
    """What is open to others, and perhaps was not meant to be; sentences."""
    found = []
    for host, act in (
        (settings.listen.host, "use the server"),
        (settings.listen.metrics_host, "read /metrics"),
    ):
        if is_loopback(host):
            continue
        if not settings.security.auth_token_file and not settings.security.tls_client_ca:
            missing = "neither --auth-token-file nor --tls-client-ca is given"
            found.append(f"everybody who can reach {host} may {act}: {missing}")
        elif not settings.security.tls_cert:
            found.append(f"bearer tokens travel unencrypted to {host}: no --tls-cert is given")
    return list(dict.fromkeys(found))
