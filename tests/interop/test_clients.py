"""Each case of each client that somebody else wrote: ``make interop``, docs/interop.md."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.interop.clients import CLIENTS, Foreign

CASES = [
    pytest.param(client, case, id=f"{client.name}-{case}")
    for client in CLIENTS
    for case in client.cases()
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("client", "case"), CASES)
def test_a_client_gets_what_it_expects(
    client: Foreign,
    case: str,
    outcomes: Callable[[Foreign], dict[str, str | None]],
    record_property: Callable[[str, object], None],
) -> None:
    record_property("client", client.name)
    record_property("case", case)
    wrong = outcomes(client)[case]
    assert wrong is None, wrong
