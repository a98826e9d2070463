"""gRPC's statuses as the client's errors."""

from __future__ import annotations

import grpc
import pytest

from corral_client import errors
from corral_client.errors import CorralClientError


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("INVALID_ARGUMENT", errors.InvalidArgument),
        ("NOT_FOUND", errors.NotFound),
        ("UNIMPLEMENTED", errors.NotFound),
        ("RESOURCE_EXHAUSTED", errors.Overloaded),
        ("DEADLINE_EXCEEDED", errors.DeadlineExceeded),
        ("UNAVAILABLE", errors.Unavailable),
        ("INTERNAL", errors.InternalError),
        ("UNKNOWN", errors.InternalError),
        ("UNAUTHENTICATED", errors.Unauthenticated),
        ("PERMISSION_DENIED", errors.PermissionDenied),
        ("ABORTED", CorralClientError),
    ],
)
def test_a_status_has_its_error_and_keeps_the_servers_words(
    status: str, kind: type[CorralClientError]
) -> None:
    error = errors.from_status(status, "the queue is full")
    assert type(error) is kind
    assert "the queue is full" in str(error)
    assert error.status == status


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.name != "OK"])
def test_every_status_becomes_some_error_with_a_text(code: grpc.StatusCode) -> None:
    error = errors.from_status(code.name, "")
    assert isinstance(error, CorralClientError)
    assert code.name in str(error)


@pytest.mark.parametrize(
    ("trailing", "hint_ms"),
    [
        ([("grpc-retry-pushback-ms", "250")], 250),
        ([("other", "1"), ("grpc-retry-pushback-ms", b"7")], 7),
        ([("grpc-retry-pushback-ms", "0")], 0),
        ([("grpc-retry-pushback-ms", "-1")], None),
        ([("grpc-retry-pushback-ms", "soon")], None),
        ([], None),
    ],
)
def test_the_retry_hint_is_read(
    trailing: list[tuple[str, str | bytes]], hint_ms: int | None
) -> None:
    error = errors.from_status("RESOURCE_EXHAUSTED", "full", trailing)
    assert isinstance(error, errors.Overloaded)
    assert error.retry_after_ms == hint_ms
    # As gRPC reads it: negative, or no number, means that no other try is wanted.
    assert error.may_retry == (hint_ms is not None or not trailing)


def test_a_message_above_the_limit_is_not_taken_for_overload() -> None:
    text = "SERVER: Received message larger than max (32505856 vs. 31457280)"
    error = errors.from_status("RESOURCE_EXHAUSTED", text)
    assert type(error) is errors.InvalidArgument
    assert "32505856" in str(error)


def test_corrals_own_sentence_about_the_limit_stays_as_it_is() -> None:
    text = "a request of 24000000 bytes is larger than the limit of 19 MB; see --max-message-mb"
    error = errors.from_status("RESOURCE_EXHAUSTED", text)
    assert type(error) is errors.InvalidArgument
    assert str(error) == text
    assert error.status == "RESOURCE_EXHAUSTED"


def test_a_deadline_says_how_long_it_was() -> None:
    error = errors.from_status("DEADLINE_EXCEEDED", "Deadline Exceeded", deadline_s=0.25)
    assert str(error) == "no answer within 0.25 s"


def test_the_servers_own_words_about_a_deadline_stay() -> None:
    error = errors.from_status("DEADLINE_EXCEEDED", "a batch takes 40 ms", deadline_s=0.25)
    assert str(error) == "a batch takes 40 ms"
