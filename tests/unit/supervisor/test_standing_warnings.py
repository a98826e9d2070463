"""Warnings of a deployment end with it."""

from __future__ import annotations

import logging

import pytest

from corral.supervisor.standing_warnings import StandingWarnings


def test_a_new_deployment_ends_what_was_said_of_the_last(caplog: pytest.LogCaptureFixture) -> None:
    standing = StandingWarnings()
    with caplog.at_level(logging.WARNING):
        standing.add(["of the server"], lasting=True)
        standing.add(["of the file", "of both", "of both"])
        standing.deployed(["of both"], ["of both", "new"])
    assert list(standing) == ["of the server", "of both", "new"]
    assert caplog.messages == ["of the server", "of the file", "of both", "new"]
