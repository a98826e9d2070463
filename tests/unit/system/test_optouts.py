"""Opt-outs: every library's own, and the user's."""

from __future__ import annotations

import pytest

from corral.launch.spawn import inherited
from corral.system.optouts import OPT_OUTS, opt_outs


@pytest.mark.parametrize("name", sorted(OPT_OUTS))
def test_a_user_cannot_switch_a_report_on(name: str) -> None:
    assert opt_outs({name: "anything"})[name] == OPT_OUTS[name]
    assert inherited({name: "anything"})[name] == OPT_OUTS[name]


@pytest.mark.parametrize(
    "name",
    ["NEXT_LIBRARY_TELEMETRY", "DONOTTRACK", "HF_HUB_OFFLINE", "X_NO_ANALYTICS", "OPTOUT_Y"],
)
def test_what_a_user_has_set_against_reports_is_handed_on(name: str) -> None:
    assert inherited({name: "1"})[name] == "1"


@pytest.mark.parametrize("name", ["CORRAL_OFFLINE", "AWS_SECRET_ACCESS_KEY", "COLUMNS"])
def test_nothing_else_is(name: str) -> None:
    assert name not in inherited({name: "1"})
