"""How long what spins is waited with, after it ended unasked."""

from __future__ import annotations

from corral.supervisor.spinners import ends_in_a_row


def test_one_that_ran_for_long_begins_the_count_anew() -> None:
    assert ends_in_a_row(4, 1.0) == 4
    assert ends_in_a_row(4, 300.0) == 4
    assert ends_in_a_row(4, 301.0) == 0
